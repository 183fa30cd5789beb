//! `bind.allow`, `bind.deny`: what of the host a container shows, by whatever name.
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rspawn_proto::ids::{RelPath, Slot};
use rspawn_proto::plan::{MountAttrs, RootfsOp, Step, Target, attr};
use rspawn_tests::hostile::{Verdict, only, plan_of, policy, submit, trusted};
use rspawn_tests::{Bundle, cannot_make_containers};
use serde_json::json;

use super::trial::{Counts, Ground, Trial};

fn bind(source: &str, options: &[&str]) -> Bundle {
    // What it shows is read, and written to where that is possible.
    let script = "find /mnt -name file | head -1 | xargs cat >/dev/null; touch /mnt/touched 2>/dev/null; rm -f /mnt/touched; echo ran";
    let options: Vec<&str> = ["bind"].iter().chain(options).copied().collect();
    Bundle::script(script).with_mount("/mnt", "none", source, &options)
}

pub fn trials(counts: &mut Counts) {
    let ground = Ground::lay_out();
    allowed(&ground, counts);
    denied(&ground, counts);
    read_only(&ground, counts);
    filesystems(&ground, counts);
    if rspawn_tests::is_root() {
        undone(&ground, counts);
    }
}

fn allowed(ground: &Ground, counts: &mut Counts) {
    let forms = [
        ("exact", "data"),
        ("with a slash at its end", "data/"),
        ("with doubled slashes", "data//."),
        ("with a dot", "./data/."),
        ("with two dots", "other/../data"),
        ("by a link", "link"),
        ("by a link in a directory", "links/data"),
    ];
    for (name, source) in forms {
        Trial::new(ground, name, bind(&ground.path(source), &["ro"]))
            .granted(counts, &["bind.allow = @/** S/data", "bind.allow = @/** S/data/**", "bind.allow = any"])
            .granted(counts, &["bind.allow = @/** S/link", "bind.allow = @/**\nbind.allow = S/data"])
            .refused(counts, &[("bind.allow = @/**", "bind.allow"), ("bind.allow = @/** S/dat", "bind.allow")])
            .refused(
                counts,
                &[("bind.allow = @/** S/datax", "bind.allow"), ("bind.allow = @/** S/data/sub", "bind.allow")],
            )
            .refused(
                counts,
                &[("bind.allow = @/** S/links/secret", "bind.allow"), ("bind.allow = none", "bind.allow")],
            );
    }
    Trial::new(ground, "below", bind(&ground.path("data/sub"), &["ro"]))
        .granted(
            counts,
            &["bind.allow = @/** S/data/**", "bind.allow = @/** S/data/sub", "bind.allow = @/** S/link/**"],
        )
        .refused(
            counts,
            &[("bind.allow = @/** S/data", "bind.allow"), ("bind.allow = @/** S/data/sub/file", "bind.allow")],
        );
    Trial::new(ground, "a parent", bind(&ground.path(""), &["ro"]))
        .granted(counts, &["bind.allow = @/** S/", "bind.allow = @/** S/**"])
        .refused(counts, &[("bind.allow = @/** S/data/**", "bind.allow")]);
    Trial::new(ground, "the bundle itself, where nothing is said", Bundle::script("echo ran"))
        .granted(counts, &["bind.allow = @/**", "bind.allow = @/rootfs"])
        .refused(counts, &[("bind.allow = @", "bind.allow"), ("bind.allow = @/root", "bind.allow")]);
}

fn denied(ground: &Ground, counts: &mut Counts) {
    let deny = [("bind.deny = S/secret", "bind.deny"), ("bind.deny = S/secret/**", "bind.deny")];
    let by_link = [("bind.deny = S/links/secret", "bind.deny"), ("bind.deny = S/links/secret/**", "bind.deny")];
    let elsewhere = ["bind.deny = S/data/**", "bind.deny = S/secrets", "bind.deny = none"];
    let forms = [
        ("exact", "secret", ""),
        ("by a link", "links/secret", ""),
        ("with two dots", "data/../secret", ""),
        ("another mount of it", "alias", "mount --bind $S/secret $S/alias"),
        ("another mount of it, over a link's place", "links/../alias", "mount --bind $S/links/secret $S/alias"),
    ];
    for (name, source, mounts) in forms {
        Trial::new(ground, name, bind(&ground.path(source), &["ro"]))
            .under(mounts)
            .granted(counts, &elsewhere)
            .refused(counts, &deny)
            .refused(counts, &by_link);
    }
    let below =
        [("below", "secret/sub", ""), ("a mount of what is below", "alias", "mount --bind $S/secret/sub $S/alias")];
    for (name, source, mounts) in below {
        Trial::new(ground, name, bind(&ground.path(source), &["ro"]))
            .under(mounts)
            .granted(counts, &elsewhere)
            .granted(counts, &["bind.deny = S/secret"])
            .refused(counts, &[deny[1], by_link[1], ("bind.deny = S/secret/sub", "bind.deny")]);
    }
    // What is above a denied path shows it, and so does a mount that lies in what is bound with all below it.
    let above = [
        ("a parent", "", ""),
        ("the host's root", "/", ""),
        ("a mount of a parent", "alias", "mount --bind $S $S/alias"),
    ];
    for (name, source, mounts) in above {
        let source = if source == "/" { "/".to_string() } else { ground.path(source) };
        let bundle = Bundle::script("echo ran").with_mount("/mnt", "none", &source, &["bind", "ro"]);
        Trial::new(ground, name, bundle).under(mounts).granted(counts, &["bind.deny = none"]).refused(counts, &deny);
    }
    let inner = "mount --bind $S/secret $S/outer/in";
    let whole = Bundle::script("echo ran").with_mount("/mnt", "none", &ground.path("outer"), &["rbind", "ro"]);
    Trial::new(ground, "a mount within", whole).under(inner).granted(counts, &elsewhere).refused(counts, &deny);
    let alone = Bundle::script("echo ran").with_mount("/mnt", "none", &ground.path("outer"), &["bind", "ro"]);
    Trial::new(ground, "a mount within that is left out", alone)
        .under(inner)
        .granted(counts, &["bind.deny = S/secret"]);
    let second = Bundle::script("cat /mnt >/dev/null; echo ran").with_mount(
        "/mnt",
        "none",
        &ground.path("other/hard"),
        &["bind"],
    );
    Trial::new(ground, "a second name of a file", second)
        .granted(counts, &["bind.deny = S/secret", "bind.deny = S/data/file"])
        .refused(counts, &[("bind.deny = S/secret/file", "bind.deny"), ("bind.deny = S/other/**", "bind.deny")])
        .refused(counts, &[("bind.deny = S/secret/**", "bind.deny")]);
    // Denied wins over allowed.
    Trial::new(ground, "both", bind(&ground.path("secret/sub"), &["ro"]))
        .granted(counts, &["bind.allow = @/** S/**\nbind.deny = S/data/**"])
        .refused(counts, &[("bind.allow = @/** S/**\nbind.deny = S/secret/**", "bind.deny")]);
}

fn read_only(ground: &Ground, counts: &mut Counts) {
    let rule = "bind.allow = @/** S/data/**:ro";
    let tmpfs = "mount -t tmpfs none $S/data/sub";
    let cases: [(&str, &[&str], &str, bool); 9] = [
        ("read-only", &["ro"], "", true),
        ("writable", &["rw"], "", false),
        ("writable where nothing is said", &[], "", false),
        ("read-only at its top, with nothing below", &["rbind", "ro"], "", true),
        ("read-only at its top", &["rbind", "ro"], tmpfs, false),
        ("read-only all the way down", &["rbind", "rro"], tmpfs, true),
        ("read-only, and the host's later mounts are not", &["rbind", "rro", "rslave"], "", false),
        (
            "read-only, with peers on the host",
            &["ro", "shared"],
            "mount --bind $S/data $S/data; mount --make-shared $S/data",
            false,
        ),
        ("read-only, and never alone", &["ro", "slave"], "", false),
    ];
    for (name, options, mounts, is_read_only) in cases {
        let trial = Trial::new(ground, name, bind(&ground.path("data"), options)).under(mounts);
        let trial = trial.granted(counts, &["bind.allow = @/** S/data/**"]);
        if is_read_only {
            trial.granted(counts, &[rule]);
        } else {
            trial.refused(counts, &[(rule, "bind.allow")]);
        }
    }
    // A root that is read-only at last is written to before: its mount points are made there.
    let root = Bundle::script("echo ran").with(|config| config["root"]["readonly"] = json!(true));
    Trial::new(ground, "a read-only root", root)
        .granted(counts, &["bind.allow = @/rootfs"])
        .refused(counts, &[("bind.allow = @/rootfs:ro", "bind.allow")]);
}

/// What a payload's own rights undo is not read-only; a lower layer is.
fn undone(ground: &Ground, counts: &mut Counts) {
    let powerful = bind(&ground.path("data"), &["ro"]).with(|config| {
        let list = json!(["CAP_SYS_ADMIN"]);
        config["process"]["capabilities"] = json!({"bounding": list, "permitted": list, "effective": list});
    });
    Trial::new(ground, "read-only, with CAP_SYS_ADMIN", powerful)
        .granted(counts, &["bind.allow = @/** S/data"])
        .refused(counts, &[("bind.allow = @/** S/data:ro", "CAP_SYS_ADMIN takes ro away")]);
    let lower = format!("lowerdir={}:{}", ground.path("data"), ground.path("other"));
    let layers =
        Bundle::script("cat /mnt/file >/dev/null; echo ran").with_mount("/mnt", "overlay", "overlay", &["ro", &lower]);
    Trial::new(ground, "layers that are only read", layers)
        .granted(counts, &["bind.allow = @/** S/data:ro S/other:ro"])
        .refused(counts, &[("bind.allow = @/** S/data:ro", "bind.allow")]);
    // A rule by a link that somebody else can change is that link alone.
    fs::create_dir_all(ground.path("theirs")).unwrap();
    symlink("../data", ground.path("theirs/link")).unwrap();
    std::os::unix::fs::chown(ground.path("theirs"), Some(12345), None).unwrap();
    Trial::new(ground, "a rule by somebody's link", bind(&ground.path("theirs/link"), &["ro"]))
        .granted(counts, &["bind.allow = @/** S/data"])
        .refused(
            counts,
            &[("bind.allow = @/** S/theirs/link", "bind.allow"), ("bind.allow = @/** S/theirs/**", "bind.allow")],
        );
}

/// A plan that clones what is read-only, and gives the clone the right to write.
#[test]
fn a_clone_of_what_is_read_only_is_not_made_writable() {
    if cannot_make_containers() {
        return;
    }
    let ground = Ground::lay_out();
    let source = ground.path("data");
    let bundle = Bundle::script("echo hacked > /mnt/file").with_mount("/mnt", "none", &source, &["bind", "ro"]);
    let mut plan = plan_of(&bundle.config, &bundle.id, bundle.path());
    let (index, mount) = plan
        .rootfs
        .iter()
        .enumerate()
        .find_map(|(index, step)| match &step.op {
            RootfsOp::Attach { mount, at, .. } if at.absolute() == "/mnt" => Some((index, *mount)),
            _ => None,
        })
        .unwrap();
    let path = RelPath::new("mnt").unwrap();
    let at = Target { above: path.as_str().len() as u16, path, mount };
    let out = Slot(900);
    let attrs = MountAttrs { clear: attr::RDONLY, ..MountAttrs::default() };
    plan.rootfs.insert(index + 1, Step::new("/x", RootfsOp::ReadOnly { at, out }));
    plan.rootfs.insert(index + 2, Step::new("/x", RootfsOp::SetAttrs { mount: out, attrs }));
    let rules = policy(&only(&format!("bind.allow = {}/** {source}/**:ro", bundle.path().display())), bundle.path());
    match submit(trusted(&bundle.id, rules), plan) {
        (Verdict::Refused(found), 1, _) => assert_eq!(found[0].rule, "bind.allow"),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_to_string(ground.path("data/file")).unwrap(), "data\n");
    bundle.assert_nothing_left();
}

/// What a filesystem takes for a path is opened, and judged where it leads.
fn filesystems(ground: &Ground, counts: &mut Counts) {
    let overlay = |lower: &str| {
        let lower = format!("lowerdir={}:{}", ground.path("data"), ground.path(lower));
        Bundle::script("cat /mnt/file >/dev/null; echo ran").with_mount("/mnt", "overlay", "overlay", &["ro", &lower])
    };
    for (name, lower) in [("a layer", "secret"), ("a layer by a link", "links/secret")] {
        Trial::new(ground, name, overlay(lower))
            .granted(counts, &["bind.deny = S/other", "bind.allow = @/** S/data S/secret"])
            .refused(counts, &[("bind.deny = S/secret", "bind.deny"), ("bind.allow = @/** S/data", "bind.allow")]);
    }
}

/// A relative source is looked up where nothing is, and not through a link of the image's or of the host's root.
#[test]
fn a_relative_source_leads_nowhere() {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let disk =
        known.lines().find_map(|line| line.strip_prefix('\t').filter(|name| ["ext4", "ext2", "xfs"].contains(name)));
    let Some(kind) = disk.filter(|_| !cannot_make_containers() && rspawn_tests::is_root()) else {
        println!("SKIPPED: this kernel has no filesystem for a disk");
        return;
    };
    let bundle = Bundle::script("echo ran");
    symlink("/dev/null", bundle.rootfs().join("link")).unwrap();
    let inside = bundle.rootfs().join("link").display().to_string();
    for source in ["link", "dev/null", "../../../../../../../dev/null", inside.trim_start_matches('/')] {
        let bundle = Bundle::script("echo ran").with_mount("/mnt", kind, source, &[]);
        let error = bundle.run().refused();
        assert!(error.contains("ENOENT") && error.contains("/mounts/"), "{source}: {error}");
        bundle.assert_nothing_left();
    }
    // The same node by its name is there, and is no disk.
    let error = Bundle::script("echo ran").with_mount("/mnt", kind, "/dev/null", &[]).run().refused();
    assert!(error.contains("ENOTBLK"), "{error}");
}

/// A link that is changed all the while leads to what is allowed, or to nothing.
#[test]
fn a_link_that_changes_shows_nothing_that_is_denied() {
    if cannot_make_containers() {
        return;
    }
    let ground = Ground::lay_out();
    let link = ground.scratch.path.join("flips");
    symlink("data", &link).unwrap();
    let bundle = Bundle::script("cat /mnt/file").with_mount("/mnt", "none", &ground.path("flips"), &["bind", "ro"]);
    bundle.write_config();
    let file = ground.scratch.path.join("flips.conf");
    let stop = AtomicBool::new(false);
    let (mut shown, mut refused) = (0, 0);
    for key in ["bind.deny = S/secret/**", "bind.allow = @/** S/data"] {
        let text = key.replace(" S/", &format!(" {}/", ground.scratch.path.display()));
        fs::write(&file, only(&text.replace('@', &bundle.path().display().to_string()))).unwrap();
        stop.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| {
                let new = ground.scratch.path.join("new");
                for target in ["secret", "data"].into_iter().cycle() {
                    symlink(target, &new).unwrap();
                    fs::rename(&new, &link).unwrap();
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            for _ in 0..60 {
                let output = bundle.run_with(&[&format!("--policy={}", file.display())], b"");
                match output.stdout.as_str() {
                    "data\n" => shown += 1,
                    "" => {
                        assert!(output.stderr.contains("bind."), "{output:?}");
                        refused += 1;
                    }
                    other => panic!("{key}: it shows {other:?}"),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
    println!("flips: {shown} shown, {refused} refused");
    assert!(shown > 0 && refused > 0, "{shown} shown, {refused} refused: the link was always the same");
}
