//! `hooks.allow`: which programs of the host run for a container, whatever leads to them.
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use rspawn_tests::hostile::{Verdict, only, plan_of, policy, submit, trusted};
use rspawn_tests::life::{Life, error};
use rspawn_tests::{Bundle, Scratch, cannot_make_containers};
use serde_json::{Value, json};

use super::trial::{Counts, Ground, Trial};

fn hooked(kind: &str, hook: Value) -> Bundle {
    Bundle::script("echo ran").with(|config| config["hooks"] = json!({kind: [hook]}))
}

/// A directory that root alone can write to, all the way from `/`; gone with this value.
struct Programs(std::path::PathBuf);

impl Programs {
    fn new() -> Self {
        let path = std::path::PathBuf::from(format!("/opt/rspawn-policy-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn trials(counts: &mut Counts) {
    if !rspawn_tests::is_root() {
        return;
    }
    let ground = Ground::lay_out();
    let key = "hooks.allow";
    // What it does, if it runs: a file on the host.
    let touch = |name: &str| json!(["touch", ground.path(name)]);
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let hook = json!({"path": "/usr/bin/touch", "args": touch("touched")});
        Trial::new(&ground, kind, hooked(kind, hook.clone()))
            .refused(
                counts,
                &[("-hooks.allow", key), ("hooks.allow = /usr/bin/touc", key), ("hooks.allow = /usr/libexec/**", key)],
            )
            .granted(
                counts,
                &["hooks.allow = /usr/bin/touch", "hooks.allow = /bin/touch", "hooks.allow = /usr/bin/**"],
            );
        assert!(fs::remove_file(ground.path("touched")).is_ok(), "{kind} has not run");
        // A link below what is allowed.
        let _ = fs::remove_file(ground.path("data/hook"));
        symlink("/usr/bin/touch", ground.path("data/hook")).unwrap();
        let by_link = json!({"path": ground.path("data/hook"), "args": touch("touched")});
        Trial::new(&ground, kind, hooked(kind, by_link))
            .refused(counts, &[("hooks.allow = S/data/**", "it is /usr/bin/touch"), ("hooks.allow = none", key)])
            .granted(counts, &["hooks.allow = /usr/bin/touch"]);
        assert!(fs::remove_file(ground.path("touched")).is_ok(), "{kind} has not run");
        for variable in [
            "LD_PRELOAD=/x.so", "PATH=/tmp:/bin", "BASH_ENV=/x", "PYTHONPATH=/x", "PERL5LIB=/x", "GCONV_PATH=/x",
            "HOME=/x", "OPENSSL_CONF=/x", "XTABLES_LIBDIR=/x", "TZ=/x", "COLOUR=red",
        ] {
            let with = json!({"path": "/usr/bin/touch", "args": touch("touched"), "env": [variable]});
            Trial::new(&ground, kind, hooked(kind, with))
                .refused(counts, &[("hooks.allow = /usr/bin/touch", "its variable")]);
        }
    }
    let harmless = json!({"path": "/usr/bin/touch", "args": touch("touched"), "env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8", "container=rspawn"]});
    Trial::new(&ground, "harmless variables", hooked("createRuntime", harmless))
        .granted(counts, &["hooks.allow = /usr/bin/touch"]);
    fs::remove_file(ground.path("touched")).unwrap();
    scripts(&ground, counts);
    // A rule by a link that somebody else can change is that link alone.
    fs::create_dir_all(ground.path("theirs")).unwrap();
    symlink("/usr/bin/touch", ground.path("theirs/hook")).unwrap();
    chown(ground.path("theirs"), Some(12345), None).unwrap();
    let by_theirs = json!({"path": ground.path("theirs/hook"), "args": touch("touched")});
    Trial::new(&ground, "a rule by somebody's link", hooked("createRuntime", by_theirs))
        .refused(counts, &[("hooks.allow = S/theirs/hook", "it is /usr/bin/touch")])
        .granted(counts, &["hooks.allow = /usr/bin/touch"]);
}

/// A script runs by its path, so nobody else may write on the way there.
fn scripts(ground: &Ground, counts: &mut Counts) {
    let programs = Programs::new();
    let directory = programs.0.display().to_string();
    let rule = format!("hooks.allow = {directory}/**");
    let hook = |path: &str| hooked("createRuntime", json!({"path": path}));
    let script = format!("#!/bin/sh\necho \"$0\" > {}\n", ground.path("touched"));
    let good = programs.put("good", &script, 0o755);
    Trial::new(ground, "a script", hook(&good))
        .refused(counts, &[("hooks.allow = /bin/**", "hooks.allow")])
        .granted(counts, &[&rule]);
    assert_eq!(fs::read_to_string(ground.path("touched")).unwrap().trim(), good);
    fs::remove_file(ground.path("touched")).unwrap();
    for mode in [0o775, 0o757] {
        let bad = programs.put("bad", &script, mode);
        Trial::new(ground, "a script that others may write", hook(&bad))
            .refused(counts, &[(&rule, "changed by others")]);
    }
    let theirs = programs.put("theirs", &script, 0o755);
    chown(&theirs, Some(12345), None).unwrap();
    Trial::new(ground, "a script of somebody's", hook(&theirs)).refused(counts, &[(&rule, "changed by others")]);
    // The ground is below /tmp, where anybody may put another directory in its place.
    let in_tmp = ground.path("data/script");
    fs::write(&in_tmp, &script).unwrap();
    fs::set_permissions(&in_tmp, fs::Permissions::from_mode(0o755)).unwrap();
    Trial::new(ground, "a script below /tmp", hook(&in_tmp))
        .refused(counts, &[("hooks.allow = S/data/**", "changed by others")]);
    let interpreter = ground.path("data/interpreter");
    fs::copy("/bin/sh", &interpreter).unwrap();
    fs::set_permissions(&interpreter, fs::Permissions::from_mode(0o777)).unwrap();
    let with = programs.put("with", &script.replace("/bin/sh", &interpreter), 0o755);
    Trial::new(ground, "an interpreter that others may write", hook(&with))
        .refused(counts, &[(&rule, "changed by others")]);
    let missing = programs.put("missing", &script.replace("/bin/sh", "/no/such/shell"), 0o755);
    Trial::new(ground, "an interpreter that is not there", hook(&missing))
        .refused(counts, &[(&rule, "/no/such/shell")]);
}

/// What is changed after the container's creation is judged again, by the policy of its creation.
#[test]
fn hooks_of_later_commands_are_judged_when_they_run() {
    if cannot_make_containers() || !rspawn_tests::is_root() {
        return;
    }
    let scratch = Scratch::new();
    let at = |name: &str| scratch.path.join(name);
    for (kind, verb) in [("poststart", "start"), ("poststop", "delete")] {
        let link = at(&format!("{kind}-hook"));
        symlink("/usr/bin/touch", &link).unwrap();
        let hook = json!({"path": link, "args": ["touch", at("touched")]});
        let bundle = Bundle::new().with_args(&["sleep", "1000"]).with(|config| config["hooks"] = json!({kind: [hook]}));
        let life = Life::new(bundle);
        let file = at("policy.conf");
        fs::write(&file, only("hooks.allow = /usr/bin/touch")).unwrap();
        life.created(&[&format!("--policy={}", file.display())]);
        // Where it leads now is not what was allowed.
        fs::remove_file(&link).unwrap();
        symlink("/usr/bin/env", &link).unwrap();
        if verb == "start" {
            let said = error(life.start());
            assert!(said.contains("hooks.allow") && said.contains("/usr/bin/env"), "{said}");
            life.delete(&["--force"]).ok();
        } else {
            life.started();
            let output = life.delete(&["--force"]);
            assert_eq!(output.status, 0, "{output:?}");
            assert!(output.stderr.contains("hooks.allow") && output.stderr.contains("/usr/bin/env"), "{output:?}");
        }
        assert!(!at("touched").exists(), "{kind}");
        life.assert_gone();
    }
}

/// A container's own program, by magic links that lead into its mounts, has the place of the host's of that name.
#[test]
fn a_program_of_a_containers_is_none_of_the_hosts() {
    if cannot_make_containers() || !rspawn_tests::is_root() {
        return;
    }
    let bundle = Bundle::new().with_args(&["/usr/bin/touch", "-d", "now", "/started"]);
    let own = bundle.rootfs().join("usr/bin");
    fs::create_dir_all(&own).unwrap();
    fs::copy(bundle.rootfs().join("bin/busybox"), own.join("touch")).unwrap();
    let life = Life::new(bundle.with_args(&["sh", "-c", "exec sleep 1000"]));
    life.created(&[]).started();
    let scratch = Scratch::new();
    let file = scratch.path.join("policy.conf");
    fs::write(&file, only("hooks.allow = /usr/bin/touch")).unwrap();
    let touched = scratch.path.join("touched");
    for kind in ["prestart", "createContainer", "poststart", "poststop"] {
        let path = format!("/proc/{}/root/usr/bin/touch", life.pid());
        let hook = json!({"path": path, "args": ["touch", touched]});
        let bundle = hooked(kind, hook);
        let output = bundle.run_with(&[&format!("--policy={}", file.display())], b"");
        assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{kind}: {output:?}");
        assert!(output.stderr.contains("of other mounts than the host's"), "{kind}: {output:?}");
        assert!(!touched.exists(), "{kind}");
        bundle.assert_nothing_left();
    }
    life.delete(&["--force"]).ok();
    // In a container's namespaces what a bundle mounts must not lie over the host's programs.
    let covering = hooked("createContainer", json!({"path": "/usr/bin/touch", "args": ["touch", touched]}))
        .with(|config| config["root"]["path"] = json!("/usr"));
    let output = covering.run_with(&[&format!("--policy={}", file.display())], b"");
    assert!(output.status == 1 && output.stderr.contains("among the host's programs"), "{output:?}");
    assert!(!touched.exists());
    // Whatever a plan calls the step that opens it.
    let mut plan = plan_of(&covering.config, &covering.id, covering.path());
    plan.host.iter_mut().for_each(|step| step.origin = "/elsewhere".into());
    let rules = policy(&only("hooks.allow = /usr/bin/touch"), covering.path());
    match submit(trusted(&covering.id, rules), plan) {
        (Verdict::Refused(found), 1, _) => assert!(found[0].what.contains("among the host's programs"), "{found:?}"),
        other => panic!("{other:?}"),
    }
}
