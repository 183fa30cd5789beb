//! Whose child a container is: its client's, who is a subreaper as conmon and containerd's shim are, and who waits for
//! it or does not. This program is one here.
use std::fs;

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rspawn_tests::life::Life;
use rspawn_tests::{Bundle, cannot_make_containers, status_field, wait_for};

rspawn_tests::also_as_an_ordinary_user!();

fn parent_of(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    status_field(&status, "PPid").unwrap().parse().unwrap()
}

fn reap(pid: i32) -> WaitStatus {
    let mut ended = WaitStatus::StillAlive;
    wait_for("the end of a child", || {
        ended = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).unwrap();
        ended != WaitStatus::StillAlive
    });
    ended
}

#[test]
fn the_container_is_its_clients_child() {
    if cannot_make_containers() {
        return;
    }
    set_child_subreaper(true).unwrap();
    let own = std::process::id() as i32;
    for init in ["--init=supervise", "--init=exec"] {
        let life = Life::new(Bundle::script("while [ ! -e /go ]; do sleep 0.02; done; exit 42"));
        life.created(&[init]);
        let pid = life.pid();
        assert_eq!(parent_of(pid), own, "an orphan when `create` has ended");
        life.started();
        fs::write(life.bundle.rootfs().join("go"), "").unwrap();
        // The client learns the payload's status.
        assert_eq!(reap(pid), WaitStatus::Exited(Pid::from_raw(pid), 42));
        assert_eq!(life.status(), "stopped");
        life.delete(&[]).ok();
        life.assert_gone();
    }
    let life = Life::idle();
    life.run(life.making("run", &["--detach"])).ok();
    let pid = life.pid();
    assert_eq!(parent_of(pid), own);
    // So is a process that was joined to it.
    let file = life.bundle.path().join("exec.pid");
    life.exec(&["--detach", &format!("--pid-file={}", file.display())], &["sh", "-c", "exit 7"]).ok();
    let joined: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    assert_eq!(reap(joined), WaitStatus::Exited(Pid::from_raw(joined), 7));
    life.kill("KILL").ok();
    assert_eq!(reap(pid), WaitStatus::Signaled(Pid::from_raw(pid), Signal::SIGKILL, false));
    life.delete(&[]).ok();
    life.assert_gone();
}

/// A client that does not wait at once must not see a container run that has ended.
#[test]
fn a_zombie_has_stopped() {
    if cannot_make_containers() {
        return;
    }
    set_child_subreaper(true).unwrap();
    let life = Life::idle();
    life.created(&[]).started();
    let pid = life.pid();
    life.kill("KILL").ok();
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    wait_for("it is a zombie", || stat().contains(") Z "));
    assert_eq!((life.status().as_str(), life.pid()), ("stopped", 0));
    assert!(life.kill("TERM").stderr.contains("container not running"));
    assert!(life.exec(&[], &["true"]).stderr.contains("cannot exec in a stopped container"));
    let list = life.command(&["list"]).output().unwrap();
    assert!(String::from_utf8_lossy(&list.stdout).contains("   0     stopped"), "{list:?}");
    life.delete(&[]).ok();
    assert!(!life.state_directory().exists());
    reap(pid);
}
