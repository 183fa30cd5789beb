//! What must hold of whatever a command answers.
use rspawn_tests::Output;

/// Compares what a payload printed with the good run's, line by line: all of it after a success, as far as it came
/// after an error.
pub fn print_fault(good: &str, said: &str, succeeded: bool) -> Option<String> {
    let (mut wanted, mut lines) = (good.lines(), said.lines().peekable());
    while let Some(line) = lines.next() {
        match wanted.next() {
            Some(good) if good == line => {}
            // The last line may have been cut.
            Some(good) if !succeeded && lines.peek().is_none() && good.starts_with(line) => {}
            Some(good) => return Some(format!("FAIL-OPEN: the payload has {line:?} in the place of {good:?}")),
            None => return Some(format!("FAIL-OPEN: the payload has {line:?} beyond the good run's")),
        }
    }
    match wanted.next() {
        Some(missing) if succeeded => Some(format!("success, and the payload lacks {missing:?}")),
        _ => None,
    }
}

/// What is wrong with the words of a command. `runtime`: the standard library was hit, which ends without words of
/// rspawn's where it gets no memory.
pub fn words_fault(output: &Output, killed: bool, runtime: bool) -> Option<String> {
    let Output { status, stderr, .. } = output;
    let is_its = runtime && stderr.contains("panicked at /rustc/");
    if (stderr.contains("panicked") && !is_its) || stderr.contains("a bug") {
        return Some(format!("PANIC: {stderr:?}"));
    }
    // rspawn-init says it itself where it has no other way.
    let is_error = |line: &&str| {
        (line.starts_with("rspawn: ") || line.starts_with("rspawn-init: ")) && !line.starts_with("rspawn: warning: ")
    };
    let errors = stderr.lines().filter(is_error).count();
    match status {
        0 if errors > 0 => Some(format!("success with an error: {stderr:?}")),
        0 => None,
        _ if errors > 0 || killed || runtime => None,
        _ => Some(format!("MUTE: status {status} without an error: {stderr:?}")),
    }
}
