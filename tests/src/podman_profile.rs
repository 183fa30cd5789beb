//! podman's default seccomp profile: from the form that engines ship to the one that a bundle has.
use rspawn_planner::oci::seccomp::Seccomp;
use rspawn_planner::seccomp::Arch;

/// Where Debian's golang-github-containers-common puts it.
pub const PODMAN_PROFILE: &str = "/usr/share/containers/seccomp.json";

/// What podman gives a container that asks for nothing special.
pub const PODMAN_CAPS: &[&str] = &[
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",
    "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
];

/// An engine-level profile (`includes`, `excludes`, `archMap`) as the runtime
/// gets it, for an amd64 or arm64 machine.
pub fn oci_form(text: &str, caps: &[&str], native: Arch) -> Seccomp {
    let profile: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let go_arch = match native {
        Arch::Aarch64 => "arm64",
        _ => "amd64",
    };
    let strings = |value: &serde_json::Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|v| v.as_str().map(String::from)).collect()
    };
    let mut oci: Seccomp = serde_json::from_value(profile.clone()).expect("a profile");
    for entry in profile["archMap"].as_array().into_iter().flatten() {
        if entry["architecture"] == native.oci_name() {
            oci.architectures.push(native.oci_name().into());
            oci.architectures.extend(strings(&entry["subArchitectures"]));
        }
    }
    let has_cap = |name: &String| caps.contains(&name.as_str());
    oci.syscalls.clear();
    for rule in profile["syscalls"].as_array().expect("rules") {
        let (inc, exc) = (&rule["includes"], &rule["excludes"]);
        let arches = strings(&inc["arches"]);
        if strings(&exc["arches"]).iter().any(|a| a == go_arch)
            || (!arches.is_empty() && !arches.iter().any(|a| a == go_arch))
            || strings(&exc["caps"]).iter().any(has_cap)
            || !strings(&inc["caps"]).iter().all(has_cap)
        {
            continue;
        }
        oci.syscalls.push(serde_json::from_value(rule.clone()).expect("a rule"));
    }
    oci
}
