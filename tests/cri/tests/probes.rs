//! Exec probes, ten in a second for a minute (`RSPAWN_PROBE_SECONDS` for another time), beside runc's on the same node:
//! each one answers, none leaves anything; what they cost is printed.
use std::fs;
use std::time::{Duration, Instant};

use rspawn_cri_tests::node::shims;
use rspawn_cri_tests::pods::{idle, pod_config};
use rspawn_cri_tests::{Container, Node, Pod};
use rspawn_tests::clients::client;
use rspawn_tests::skip_unless;

const INTERVAL: Duration = Duration::from_millis(100);

/// Probes a container until the time is up. Gives how many there were, and the middle one's milliseconds.
fn probe(container: &Container, until: Instant) -> (u32, f64) {
    let mut times = Vec::new();
    let mut next = Instant::now();
    while next < until {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let began = Instant::now();
        let answer = container.try_exec(&["sh", "-c", "echo well; exit 0"], 10).expect("a probe");
        assert_eq!((answer.exit_code, &answer.stdout[..]), (0, &b"well\n"[..]));
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        next += INTERVAL;
    }
    times.sort_by(f64::total_cmp);
    (times.len() as u32, times[times.len() / 2])
}

/// Seconds of processor time of a pod's shim and of all its children that have ended, among them each runtime's and each
/// probe's: fields 14 to 17 of /proc/PID/stat.
fn processor_time(node: &Node, pod: &Pod) -> f64 {
    let all = shims(node);
    let (pid, _) = all.iter().find(|(_, line)| line.contains(&pod.id)).expect("the pod's shim");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its numbers");
    let fields = stat.rsplit(") ").next().expect("fields").split(' ');
    let ticks: u64 = fields.skip(11).take(4).map(|field| field.parse::<u64>().expect("a number")).sum();
    ticks as f64 / 100.0
}

#[test]
fn ten_probes_a_second() {
    let Some(node) = Node::new() else { return };
    let seconds = std::env::var("RSPAWN_PROBE_SECONDS").map_or(60, |text| text.parse().expect("a number of seconds"));
    let mut handlers = vec!["rspawn"];
    if !skip_unless(client("runc").is_absolute(), "runc is not installed: there are no numbers beside rspawn's") {
        handlers.push("runc");
    }
    let pods: Vec<Pod> =
        handlers.iter().map(|name| Pod::run_by(&node, pod_config(&node, &format!("of-{name}")), name)).collect();
    let containers: Vec<Container> = pods.iter().map(|pod| pod.start(idle("main"))).collect();
    let before: Vec<f64> = pods.iter().map(|pod| processor_time(&node, pod)).collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    // Both at once, so that they have the same machine.
    let results: Vec<(u32, f64)> = std::thread::scope(|scope| {
        let workers: Vec<_> = containers.iter().map(|one| scope.spawn(move || probe(one, until))).collect();
        workers.into_iter().map(|worker| worker.join().expect("its probes")).collect()
    });
    for (index, name) in handlers.iter().enumerate() {
        let (count, middle) = results[index];
        let used = (processor_time(&node, &pods[index]) - before[index]) * 1000.0 / f64::from(count);
        println!("{name}: {count} probes, {middle:.1} ms in the middle, {used:.1} ms of processor time each");
    }
    for container in &containers {
        let left = container.sh("ps -o args");
        assert!(!left.contains("echo well"), "a probe is left: {left}");
    }
    node.finish();
}
