//! Volumes: binds of the node's, what they may do, and which mounts they pass on.
use std::fs;
use std::path::{Path, PathBuf};

use k8s_cri::v1::{Mount, MountPropagation};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rspawn_cri_tests::pods::{idle, pod_config, script};
use rspawn_cri_tests::{Node, Pod};

fn bind(host: &Path, inside: &str) -> Mount {
    Mount { container_path: inside.into(), host_path: host.to_string_lossy().into_owned(), ..Default::default() }
}

#[test]
fn volumes() {
    let Some(node) = Node::new() else { return };
    let pod = Pod::run(&node, pod_config(&node, "volumes"));
    let volume = node.path().join("volume");
    fs::create_dir(&volume).expect("a volume");
    fs::write(volume.join("there"), "from the node\n").expect("a file");
    let mut config = script("main", "cat /data/there; echo back > /data/new; touch /fixed/x 2>&1; cat /one/file; true");
    let read_only = Mount { readonly: true, ..bind(&volume, "/fixed") };
    let single = bind(&volume.join("there"), "/one/file");
    config.mounts = vec![bind(&volume, "/data"), read_only, single];
    let shown = pod.output_of(config);
    assert!(shown.starts_with("from the node\n") && shown.ends_with("from the node\n"), "{shown}");
    assert!(shown.contains("Read-only file system"), "{shown}");
    assert_eq!(fs::read_to_string(volume.join("new")).expect("the container's file"), "back\n");
    node.finish();
}

/// A mount of the node's that others are told of, for as long as it is needed.
struct Shared(PathBuf);

impl Shared {
    fn at(place: PathBuf) -> Self {
        fs::create_dir(&place).expect("a directory");
        mount(Some(&place), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a bind");
        let shared = Self(place);
        mount(None::<&str>, &shared.0, None::<&str>, MsFlags::MS_SHARED, None::<&str>).expect("a shared mount");
        shared
    }

    fn tmpfs(&self, name: &str) -> PathBuf {
        let place = self.0.join(name);
        fs::create_dir(&place).expect("a directory");
        mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
        place
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let below = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        for place in below.chain([self.0.clone()]) {
            // What was never mounted, or has gone with its container, is no mount any more.
            let _ = umount2(&place, MntFlags::MNT_DETACH);
        }
    }
}

#[test]
fn mounts_that_propagate() {
    let Some(node) = Node::new() else { return };
    let shared = Shared::at(node.path().join("shared"));
    let mut config = pod_config(&node, "propagation");
    config.linux.as_mut().expect("its Linux part").security_context.as_mut().expect("a context").privileged = true;
    let pod = Pod::run(&node, config);
    let with = |name: &str, propagation: MountPropagation| {
        let mut config = idle(name);
        config.mounts = vec![Mount { propagation: propagation.into(), ..bind(&shared.0, "/data") }];
        // Only who is privileged may pass mounts back.
        rspawn_cri_tests::pods::security(&mut config).privileged = true;
        pod.start(config)
    };
    let private = with("private", MountPropagation::PropagationPrivate);
    let slave = with("slave", MountPropagation::PropagationHostToContainer);
    let both = with("both", MountPropagation::PropagationBidirectional);
    let later = shared.tmpfs("later");
    fs::write(later.join("file"), "").expect("a file");
    let sees = "test -e /data/later/file && echo sees it || echo sees nothing";
    assert_eq!(private.sh(sees), "sees nothing\n");
    assert_eq!(slave.sh(sees), "sees it\n");
    assert_eq!(both.sh(sees), "sees it\n");

    for (container, name) in [(&private, "by-private"), (&slave, "by-slave"), (&both, "by-both")] {
        container.sh(&format!("mkdir /data/{name}; mount -t tmpfs x /data/{name}; touch /data/{name}/file"));
    }
    let reached = |name: &str| shared.0.join(name).join("file").exists();
    assert_eq!(["by-private", "by-slave", "by-both"].map(reached), [false, false, true]);
    both.sh("umount /data/by-both");
    assert!(!reached("by-both"));
    drop(shared);
    node.finish();
}
