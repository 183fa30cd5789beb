//! `.nspawn` settings files: what they change, whom they are believed, and the table of their keys.
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use rspawn_planner::settings::keys::{KEYS, KeySupport, Trust};
use rspawn_tests::{Bundle, Output, Scratch, cannot_make_containers, finish, program};
use serde_json::json;

/// Runs a bundle with a settings file that the invoker names.
#[track_caller]
fn run(bundle: &Bundle, settings: &str, options: &[&str]) -> Output {
    let file = Scratch::new();
    let path = file.path.join("demo.nspawn");
    fs::write(&path, settings).unwrap();
    let named = format!("--settings={}", path.display());
    bundle.run_with(&[&[named.as_str()], options].concat(), b"")
}

#[test]
fn the_bundle_then_settings_then_the_command_line() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("hostname; pwd; echo $A $B; umask").with(|config| {
        config["process"]["env"].as_array_mut().unwrap().push(json!("A=bundle"));
        config["process"]["cwd"] = json!("/etc");
    });
    let settings = "[Exec]\nHostname=settings\nEnvironment=A=settings \"B=two words\"\nWorkingDirectory=/var\n";
    assert_eq!(bundle.run().ok(), "rspawn\n/etc\nbundle\n0022\n");
    assert_eq!(run(&bundle, settings, &[]).ok(), "settings\n/var\nsettings two words\n0022\n");
    let options = ["--hostname=ours", "--setenv=A=ours"];
    assert_eq!(run(&bundle, settings, &options).ok(), "ours\n/var\nours two words\n0022\n");
}

#[test]
fn keys_of_every_section() {
    if cannot_make_containers() {
        return;
    }
    let data = Scratch::new();
    fs::write(data.path.join("file"), "content\n").unwrap();
    let bundle = Bundle::new();
    fs::write(bundle.rootfs().join("etc/secret"), "secret\n").unwrap();
    fs::write(bundle.rootfs().join("etc/passwd"), "alice:x:7:8::/:/bin/sh\n").unwrap();
    let settings = format!(
        "# comment\n[Exec]\nParameters=sh -c \\\n  \"id -u; cat /data/file /etc/secret; ulimit -n; \\\n; in between\n \
         touch /t/x; touch /data/x; cat /proc/self/oom_score_adj; grep CapBnd /proc/self/status; echo $container_uuid\"\n\
         User=alice\nLimitNOFILE=50:60\nOOMScoreAdjust=300\nDropCapability=CAP_KILL CAP_AUDIT_WRITE\n\
         MachineID=0123456789abcdef0123456789abcdef\nNoNewPrivileges=yes\nProcessTwo=yes\nKillSignal=SIGINT\n\
         [Files]\nBind=/nonexistent\nBind=\nBindReadOnly={}:/data\nTemporaryFileSystem=/t:mode=1777\n\
         Inaccessible=/etc/secret\nReadOnly=yes\n[Network]\nPrivate=yes\n",
        data.path.display()
    );
    let output = run(&bundle, &settings, &[]);
    let expected = "7\ncontent\n50\n300\nCapBnd:\t0000000000000400\n01234567-89ab-cdef-0123-456789abcdef\n";
    assert_eq!(output.stdout, expected, "{output:?}");
    assert!(output.stderr.contains("touch: /data/x: Read-only file system"), "{output:?}");
}

#[test]
fn boot_runs_the_init() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new();
    fs::create_dir(bundle.rootfs().join("sbin")).unwrap();
    let init = bundle.rootfs().join("sbin/init");
    fs::write(&init, "#!/bin/sh\necho init $$ \"$@\"\n").unwrap();
    let mut mode = fs::metadata(&init).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(&init, mode).unwrap();
    assert_eq!(run(&bundle, "[Exec]\nBoot=yes\nParameters=a 'b c'\n", &[]).ok(), "init 1 a b c\n");
}

#[test]
fn a_value_that_makes_no_sense_is_an_error() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("true");
    for (settings, part) in [
        ("[Exec]\nUser=a b\n", "demo.nspawn: line 2: User=: "),
        ("[Files]\n\nInaccessible=relative\n", "demo.nspawn: line 3: Inaccessible=: "),
        ("[Exec]\nLimitNOFILE=many\n", "line 2: LimitNOFILE=: "),
        ("Bind=/x\n", "line 1: "),
        ("[Exec]\nUser=nobody-here\n", "demo.nspawn:2 User=: "),
    ] {
        let error = run(&bundle, settings, &[]).refused();
        assert!(error.contains(part), "{settings}: {error}");
    }
    let missing = bundle.run_with(&["--settings=/nonexistent.nspawn"], b"").refused();
    assert!(missing.contains("cannot open the settings file /nonexistent.nspawn"), "{missing}");
}

/// A file beside the root directory is the image author's: it may take away, and not add (CVE-2026-40226).
#[test]
fn a_file_beside_the_image_is_not_trusted() {
    if cannot_make_containers() {
        return;
    }
    let script = "hostname; id -u; cat /host 2>/dev/null; grep CapBnd /proc/self/status; ulimit -n; \
        grep NoNewPrivs /proc/self/status; mkdir /tmp/x 2>/dev/null && echo made; exit 0";
    let bundle = Bundle::script(script).with(|config| config["process"]["noNewPrivileges"] = json!(true));
    fs::write(bundle.rootfs().join("etc/passwd"), "alice:x:7:8::/:/bin/sh\n").unwrap();
    let settings = "[Exec]\nHostname=beside\nUser=alice\nCapability=CAP_SYS_ADMIN\nDropCapability=CAP_KILL\n\
        LimitNOFILE=50\nNoNewPrivileges=no\nSystemCallFilter=~mkdir mkdirat\nSystemCallFilter=mount\nEphemeral=yes\n\
        [Files]\nBindReadOnly=/etc/hostname:/host\nVolatile=overlay\nBindUser=root\n";
    let name = bundle.path().file_name().unwrap().to_str().unwrap().to_string();
    fs::write(bundle.path().join(format!("{name}.nspawn")), settings).unwrap();
    // Of a bundle it is not even looked for where nobody asks.
    assert!(bundle.run().stdout.starts_with("rspawn\n0\n"));
    let output = bundle.run_with(&["--settings=yes"], b"");
    let expected = "beside\n7\nCapBnd:\t0000000020000400\n1024\nNoNewPrivs:\t1\n";
    assert_eq!(output.stdout, expected, "{output:?}");
    for key in [
        "Capability=", "LimitNOFILE=", "NoNewPrivileges=", "SystemCallFilter=", "Ephemeral=", "BindReadOnly=",
        "Volatile=",
    ] {
        let line = format!("{key}: ignored: the file is not trusted");
        let said = output.stderr.lines().any(|text| text.starts_with("rspawn: warning: ") && text.contains(&line));
        assert!(said || output.stderr.contains(&format!("{key}: ignored")), "{key}: {}", output.stderr);
    }
    // Where the bundle's user is not root, the file cannot make it so.
    let user = bundle.with(|config| config["process"]["user"] = json!({"uid": 9, "gid": 9}));
    fs::write(user.path().join(format!("{name}.nspawn")), "[Exec]\nUser=0\n").unwrap();
    let output = user.run_with(&["--settings=yes"], b"");
    assert!(output.stdout.starts_with("rspawn\n9\n") && output.stderr.contains("User=: ignored"), "{output:?}");
}

/// It is opened before privileges go: what it must not be is a link to the host, or something that waits.
#[test]
fn an_untrusted_file_is_a_plain_file() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::script("true");
    let name = bundle.path().file_name().unwrap().to_str().unwrap();
    let path = bundle.path().join(format!("{name}.nspawn"));
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    let error = bundle.run_with(&["--settings=yes"], b"").refused();
    assert!(error.contains("cannot open the settings file") && !error.contains("root:"), "{error}");
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    assert!(bundle.run_with(&["--settings=yes"], b"").refused().contains("not a regular file"));
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![b'#'; 300 << 10]).unwrap();
    assert!(bundle.run_with(&["--settings=yes"], b"").refused().contains("larger than 256 KiB"));
}

#[test]
fn a_directory_has_its_settings_beside_it() {
    if cannot_make_containers() {
        return;
    }
    let bundle = Bundle::new();
    fs::write(bundle.path().join("rootfs.nspawn"), "[Exec]\nEnvironment=FROM=settings\n[Files]\nBind=/etc\n").unwrap();
    let run = |option: &str| {
        let mut command = Command::new(program("rspawn"));
        command.arg("run").arg(format!("--directory={}", bundle.rootfs().display())).arg("--console=pipe");
        command.args([option, "--", "sh", "-c", "echo [$FROM]"]);
        finish(command, b"")
    };
    let output = run("--settings=yes");
    assert_eq!(output.stdout, "[settings]\n", "{output:?}");
    assert!(output.stderr.contains("rootfs.nspawn:4 Bind=: ignored: the file is not trusted"), "{output:?}");
    assert_eq!(run("--settings=no").ok(), "[]\n");
}

/// systemd.nspawn(5) as of systemd 259, from its list of keys.
const SYSTEMDS_KEYS: [(&str, &str); 3] = [
    (
        "Exec",
        "Boot Ephemeral ProcessTwo Parameters Environment User Capability AmbientCapability DropCapability KillSignal \
         Personality MachineID WorkingDirectory PivotRoot PrivateUsers NotifyReady SystemCallFilter LimitCPU LimitFSIZE \
         LimitDATA LimitSTACK LimitCORE LimitRSS LimitNOFILE LimitAS LimitNPROC LimitMEMLOCK LimitLOCKS LimitSIGPENDING \
         LimitMSGQUEUE LimitNICE LimitRTPRIO LimitRTTIME Hostname NoNewPrivileges OOMScoreAdjust CPUAffinity ResolvConf \
         LinkJournal Timezone SuppressSync",
    ),
    (
        "Files",
        "ReadOnly Volatile Bind BindReadOnly TemporaryFileSystem Inaccessible Overlay OverlayReadOnly PrivateUsersChown \
         PrivateUsersOwnership BindUser",
    ),
    ("Network", "Private Interface MACVLAN IPVLAN VirtualEthernet VirtualEthernetExtra Bridge Zone Port"),
];

#[test]
fn every_key_of_systemd_has_a_fate() {
    let theirs: BTreeSet<String> = SYSTEMDS_KEYS
        .iter()
        .flat_map(|(section, names)| names.split_whitespace().map(move |name| format!("{section}.{name}")))
        .collect();
    let ours: BTreeSet<String> = KEYS.iter().map(|key| format!("{}.{}", key.section, key.name)).collect();
    assert_eq!(ours, theirs);
}

/// The page of the documentation is the table of the code.
#[test]
fn the_documentation_lists_every_key() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../parent/docs/settings.md");
    let text = fs::read_to_string(&page).unwrap_or_default();
    let row = |key: &rspawn_planner::settings::keys::Key| {
        let trust = if key.trust == Trust::Trusted { "trusted" } else { "any" };
        match key.fate {
            KeySupport::Honoured(what) => format!("| `[{}]` | `{}=` | {trust} | {what} |", key.section, key.name),
            KeySupport::Ignored(why) => format!("| `[{}]` | `{}=` | no effect | {why} |", key.section, key.name),
        }
    };
    let rows: Vec<String> = KEYS.iter().map(row).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let (before, _) = text.split_once("| section |").expect("a table");
        let table =
            format!("| section | key | believed from | what it does |\n|---|---|---|---|\n{}\n", rows.join("\n"));
        fs::write(&page, format!("{before}{table}")).unwrap();
        return;
    }
    let found: Vec<&str> = text.lines().filter(|line| line.starts_with("| `[")).collect();
    assert_eq!(found, rows, "UPDATE_GOLDEN=1 writes the table of parent/docs/settings.md");
}
