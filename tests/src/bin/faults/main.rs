//! The fault lane: every system call of every process of each verb fails once, with the errors that it can return; or
//! its process is killed at it. Whatever is hit, a payload is as confined as in the good run or does not run, no answer
//! is a lie, nothing hangs, and `delete --force` leaves nothing.
//!
//! `faults` runs all of it, which takes half an hour; `--help` says how to run less.
mod calls;
mod oracle;
mod tracer;
mod verbs;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tracer::{Fate, Site, Tracer};
use verbs::{Place, VERBS};

const HELP: &str = "usage: faults [--kills] [--tenth] [--seed TEXT] [--jobs N] [--list] [--seconds N]
              [--verb NAME] [--process NAME] [--call NAME] [--number N] [--error NAME]
Makes every system call of each verb of rspawn's fail once (with --kills: kills its process there), as root, and judges
what becomes of it. --tenth takes a tenth of the cases, chosen by the seed; --seconds stops after so long; the other
options choose those of a name. RSPAWN_BIN names the directory of other programs than those of this build.
";

/// One thing to try.
#[derive(Debug, Clone)]
struct Case {
    verb: &'static str,
    site: Site,
    /// What the process has executed.
    program: String,
    fate: Fate,
}

impl Case {
    fn name(&self) -> String {
        let Site { process, call, number } = &self.site;
        let fate = match self.fate {
            Fate::Kill => "SIGKILL".into(),
            Fate::Stop => "SIGSTOP".into(),
            Fate::Error(errno) => calls::error_name(errno),
        };
        format!("{} {process} {} {call} {number} {fate}", self.verb, self.program)
    }
}

#[derive(Default)]
struct Options {
    kills: bool,
    tenth: bool,
    list: bool,
    seed: String,
    jobs: usize,
    seconds: Option<u64>,
    only: BTreeMap<String, String>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("--trace") => return trace(&words[1..]),
        Some("--help") => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let Some(options) = parse(&words) else {
        eprint!("{HELP}");
        return ExitCode::FAILURE;
    };
    if rspawn_tests::cannot_make_containers() {
        return ExitCode::SUCCESS;
    }
    let cases = choose(&options);
    if options.list {
        cases.iter().for_each(|case| println!("{}", case.name()));
        println!("{} cases", cases.len());
        return ExitCode::SUCCESS;
    }
    run_all(&options, &cases)
}

fn parse(words: &[String]) -> Option<Options> {
    let mut options = Options { jobs: 2, ..Options::default() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--kills" => options.kills = true,
            "--tenth" => options.tenth = true,
            "--list" => options.list = true,
            "--seed" => options.seed = words.next()?.clone(),
            "--jobs" => options.jobs = words.next()?.parse().ok()?,
            "--seconds" => options.seconds = Some(words.next()?.parse().ok()?),
            "--verb" | "--process" | "--call" | "--number" | "--error" => {
                options.only.insert(word[2..].to_string(), words.next()?.clone());
            }
            _ => return None,
        }
    }
    Some(options)
}

/// `faults --trace REPORT - -- WORDS` counts; `faults --trace REPORT PROCESS CALL NUMBER FATE -- WORDS` does something.
fn trace(words: &[String]) -> ExitCode {
    let split = words.iter().position(|word| word == "--").expect("a command");
    let (asked, command) = (&words[..split], &words[split + 1..]);
    let wanted = match &asked[1..] {
        [process, call, number, fate] => {
            let fate = match fate.as_str() {
                "kill" => Fate::Kill,
                "stop" => Fate::Stop,
                errno => Fate::Error(errno.parse().expect("an errno")),
            };
            let number = number.parse().expect("a number");
            Some((Site { process: process.clone(), call: call.clone(), number }, fate))
        }
        _ => None,
    };
    let mut tracer = Tracer::new(wanted);
    let status = tracer.run(command);
    let report = if tracer.done { "done\n".to_string() } else { tracer.report() };
    std::fs::write(&asked[0], report).expect("the report");
    ExitCode::from(status as u8)
}

/// All cases, of which the options leave some.
fn choose(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    for verb in VERBS {
        if options.only.get("verb").is_some_and(|only| only != verb.name()) {
            continue;
        }
        let mut place = Place::new(*verb);
        for (site, program) in place.sites() {
            let fates: Vec<Fate> = match options.kills {
                true => vec![Fate::Kill],
                false => calls::errors(&site.call).iter().map(|errno| Fate::Error(*errno)).collect(),
            };
            let case = |fate| Case { verb: verb.name(), site: site.clone(), program: program.clone(), fate };
            cases.extend(fates.into_iter().map(case));
        }
    }
    let fits = |case: &Case, what: &str| match what {
        "process" => case.site.process.clone(),
        "call" => case.site.call.clone(),
        "number" => case.site.number.to_string(),
        "error" => case.name().rsplit(' ').next().unwrap_or_default().to_string(),
        _ => case.verb.to_string(),
    };
    cases.retain(|case| options.only.iter().all(|(what, only)| fits(case, what) == *only));
    if options.tenth {
        cases.retain(|case| hash(&format!("{} {}", options.seed, case.name())).is_multiple_of(10));
    }
    cases
}

/// FNV-1a, with a finish that mixes its low bits.
fn hash(text: &str) -> u64 {
    let sum = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (sum ^ sum >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

#[derive(Default)]
struct Counts {
    tried: usize,
    hit: usize,
    errors: usize,
    wrong: usize,
}

fn run_all(options: &Options, cases: &[Case]) -> ExitCode {
    let began = Instant::now();
    println!("{} cases, seed {:?}, {} at a time", cases.len(), options.seed, options.jobs);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<&str, Counts>::new()));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                let mut place: Option<Place> = None;
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if options.seconds.is_some_and(|most| began.elapsed() > Duration::from_secs(most)) {
                        break;
                    }
                    let verb = VERBS.iter().find(|verb| verb.name() == case.verb).expect("a verb");
                    let here = match place.take() {
                        Some(place) if place.verb == *verb => place,
                        _ => Place::new(*verb),
                    };
                    let here = place.insert(here);
                    let result = here.attempt(case);
                    let mut done = done.lock().expect("the counts");
                    let counts = done.entry(case.verb).or_default();
                    counts.tried += 1;
                    counts.hit += usize::from(result.hit);
                    counts.errors += usize::from(result.status != 0);
                    for what in &result.wrong {
                        println!("WRONG {}: {what}", case.name());
                    }
                    if !result.wrong.is_empty() {
                        counts.wrong += 1;
                        // What is left of a failure must not be the next one's.
                        place = None;
                    }
                }
            });
        }
    });
    let done = done.into_inner().expect("the counts");
    let mut all = Counts::default();
    for (verb, counts) in &done {
        let Counts { tried, hit, errors, wrong } = counts;
        println!("{verb}: {tried} tried, {hit} hit, {errors} answered with an error, {wrong} wrong");
        all.tried += tried;
        all.hit += hit;
        all.errors += errors;
        all.wrong += wrong;
    }
    println!(
        "all: {} tried, {} hit, {} answered with an error, {} wrong, {} s",
        all.tried,
        all.hit,
        all.errors,
        all.wrong,
        began.elapsed().as_secs()
    );
    if all.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
