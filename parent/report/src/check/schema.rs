//! The properties of config.json (runtime-spec 1.3, `config.md`, `config-linux.md`) and what each expects: to name what
//! was expected where something is wrong, and to find properties that are none.

/// A pattern of JSON pointers, `*` for any key or index, and what is expected there.
pub const SCHEMA: &[(&str, &str)] = &[
    ("/ociVersion", "a version of the specification, 1.x.y"),
    ("/root", "an object with a path"),
    ("/root/path", "a directory, absolute or below the bundle"),
    ("/root/readonly", "true or false"),
    ("/hostname", "a name of at most 64 bytes, with a uts namespace"),
    ("/domainname", "a name of at most 64 bytes, with a uts namespace"),
    ("/annotations/*", "a string"),
    ("/mounts", "a list of mounts, at most 4096"),
    ("/mounts/*/destination", "an absolute path in the container"),
    ("/mounts/*/type", "a type of filesystem, or `bind`"),
    ("/mounts/*/source", "a path of the host, a device or a name"),
    ("/mounts/*/options", "a list of mount options"),
    ("/mounts/*/options/*", "a mount option"),
    ("/mounts/*/uidMappings", "a list of id ranges"),
    ("/mounts/*/uidMappings/*/containerID", "an id, 0 to 4294967294"),
    ("/mounts/*/uidMappings/*/hostID", "an id, 0 to 4294967294"),
    ("/mounts/*/uidMappings/*/size", "a number of ids, 1 or more"),
    ("/mounts/*/gidMappings", "a list of id ranges"),
    ("/mounts/*/gidMappings/*/containerID", "an id, 0 to 4294967294"),
    ("/mounts/*/gidMappings/*/hostID", "an id, 0 to 4294967294"),
    ("/mounts/*/gidMappings/*/size", "a number of ids, 1 or more"),
    ("/process", "an object with args and cwd"),
    ("/process/terminal", "true or false; true with a devpts mount at /dev/pts"),
    ("/process/consoleSize/height", "rows, at most 65535"),
    ("/process/consoleSize/width", "columns, at most 65535"),
    ("/process/cwd", "an absolute path in the container"),
    ("/process/env", "a list of NAME=value"),
    ("/process/env/*", "NAME=value"),
    ("/process/args", "a list with the program first"),
    ("/process/args/*", "a string"),
    ("/process/commandLine", "nothing: it is for Windows"),
    ("/process/rlimits", "a list of limits"),
    ("/process/rlimits/*/type", "RLIMIT_NOFILE or another of getrlimit(2)"),
    ("/process/rlimits/*/soft", "a number, at most hard"),
    ("/process/rlimits/*/hard", "a number; 18446744073709551615 for none"),
    ("/process/apparmorProfile", "a profile, on a kernel with AppArmor"),
    ("/process/selinuxLabel", "a label, on a kernel with SELinux"),
    ("/process/capabilities/bounding", "a list of capabilities"),
    ("/process/capabilities/bounding/*", "CAP_CHOWN or another of capabilities(7)"),
    ("/process/capabilities/effective", "a list of capabilities, each permitted as well"),
    ("/process/capabilities/effective/*", "CAP_CHOWN or another of capabilities(7)"),
    ("/process/capabilities/permitted", "a list of capabilities"),
    ("/process/capabilities/permitted/*", "CAP_CHOWN or another of capabilities(7)"),
    ("/process/capabilities/inheritable", "a list of capabilities"),
    ("/process/capabilities/inheritable/*", "CAP_CHOWN or another of capabilities(7)"),
    ("/process/capabilities/ambient", "a list of capabilities, each permitted and inheritable as well"),
    ("/process/capabilities/ambient/*", "CAP_CHOWN or another of capabilities(7)"),
    ("/process/noNewPrivileges", "true or false"),
    ("/process/oomScoreAdj", "a number from -1000 to 1000"),
    ("/process/scheduler/policy", "SCHED_OTHER or another of sched(7)"),
    ("/process/scheduler/nice", "a number from -20 to 19"),
    ("/process/scheduler/priority", "1 to 99 for SCHED_FIFO and SCHED_RR, else 0"),
    ("/process/scheduler/flags", "a list of SCHED_FLAG_*"),
    ("/process/scheduler/flags/*", "SCHED_FLAG_RESET_ON_FORK or another of sched_setattr(2)"),
    ("/process/scheduler/runtime", "nanoseconds, for SCHED_DEADLINE"),
    ("/process/scheduler/deadline", "nanoseconds, for SCHED_DEADLINE"),
    ("/process/scheduler/period", "nanoseconds, for SCHED_DEADLINE"),
    ("/process/ioPriority/class", "IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE"),
    ("/process/ioPriority/priority", "a number from 0 to 7"),
    ("/process/execCPUAffinity/initial", "a list of CPUs such as 0-3,7"),
    ("/process/execCPUAffinity/final", "a list of CPUs such as 0-3,7"),
    ("/process/user/uid", "an id, 0 to 4294967294"),
    ("/process/user/gid", "an id, 0 to 4294967294"),
    ("/process/user/umask", "a mode of at most 0777, which is 511"),
    ("/process/user/additionalGids", "a list of at most 65536 ids"),
    ("/process/user/additionalGids/*", "an id, 0 to 4294967294"),
    ("/process/user/username", "nothing: it is for Windows"),
    ("/hooks/prestart", "a list of hooks"),
    ("/hooks/createRuntime", "a list of hooks"),
    ("/hooks/createContainer", "a list of hooks"),
    ("/hooks/startContainer", "a list of hooks"),
    ("/hooks/poststart", "a list of hooks"),
    ("/hooks/poststop", "a list of hooks"),
    ("/hooks/*/*/path", "an absolute path of a program"),
    ("/hooks/*/*/args", "a list of strings, the program's name first"),
    ("/hooks/*/*/args/*", "a string"),
    ("/hooks/*/*/env", "a list of NAME=value"),
    ("/hooks/*/*/env/*", "NAME=value"),
    ("/hooks/*/*/timeout", "seconds, 1 or more"),
    ("/linux", "an object with namespaces, a mount namespace among them"),
    ("/linux/namespaces", "a list of namespaces, each kind once"),
    ("/linux/namespaces/*/type", "pid, network, mount, ipc, uts, user, cgroup or time"),
    ("/linux/namespaces/*/path", "an absolute path of a namespace file"),
    ("/linux/uidMappings", "a list of id ranges, with a new user namespace"),
    ("/linux/uidMappings/*/containerID", "an id, 0 to 4294967294"),
    ("/linux/uidMappings/*/hostID", "an id, 0 to 4294967294"),
    ("/linux/uidMappings/*/size", "a number of ids, 1 or more"),
    ("/linux/gidMappings", "a list of id ranges, with a new user namespace"),
    ("/linux/gidMappings/*/containerID", "an id, 0 to 4294967294"),
    ("/linux/gidMappings/*/hostID", "an id, 0 to 4294967294"),
    ("/linux/gidMappings/*/size", "a number of ids, 1 or more"),
    ("/linux/timeOffsets/*/secs", "seconds"),
    ("/linux/timeOffsets/*/nanosecs", "nanoseconds, below 1000000000"),
    ("/linux/devices", "a list of devices"),
    ("/linux/devices/*/path", "an absolute path in the container"),
    ("/linux/devices/*/type", "c, u, b or p"),
    ("/linux/devices/*/major", "a number from 0 to 4095"),
    ("/linux/devices/*/minor", "a number from 0 to 1048575"),
    ("/linux/devices/*/fileMode", "a mode as a decimal number: 438 is 0666"),
    ("/linux/devices/*/uid", "an id, 0 to 4294967294"),
    ("/linux/devices/*/gid", "an id, 0 to 4294967294"),
    ("/linux/netDevices/*/name", "the device's name in the container"),
    ("/linux/cgroupsPath", "a path below the cgroup mount"),
    ("/linux/resources/devices", "a list of device rules"),
    ("/linux/resources/devices/*/allow", "true or false"),
    ("/linux/resources/devices/*/type", "a (all), c (character) or b (block)"),
    ("/linux/resources/devices/*/major", "a device number, -1 for all"),
    ("/linux/resources/devices/*/minor", "a device number, -1 for all"),
    ("/linux/resources/devices/*/access", "some of the letters r, w and m"),
    ("/linux/resources/memory", "limits in bytes"),
    ("/linux/resources/memory/limit", "bytes, -1 for no limit"),
    ("/linux/resources/memory/reservation", "bytes, -1 for no limit"),
    ("/linux/resources/memory/swap", "bytes of memory and swap together, -1 for no limit"),
    ("/linux/resources/memory/kernel", "bytes; no kernel has this limit any more"),
    ("/linux/resources/memory/kernelTCP", "bytes, on cgroup v1"),
    ("/linux/resources/memory/swappiness", "0 to 100, on cgroup v1"),
    ("/linux/resources/memory/disableOOMKiller", "true or false, on cgroup v1"),
    ("/linux/resources/memory/useHierarchy", "true or false; the kernel always does"),
    ("/linux/resources/memory/checkBeforeUpdate", "true or false"),
    ("/linux/resources/cpu", "shares, quotas, sets of CPUs"),
    ("/linux/resources/cpu/shares", "a weight from 2 to 262144"),
    ("/linux/resources/cpu/quota", "microseconds in each period, -1 for no limit"),
    ("/linux/resources/cpu/burst", "microseconds"),
    ("/linux/resources/cpu/period", "microseconds"),
    ("/linux/resources/cpu/realtimeRuntime", "microseconds, on cgroup v1"),
    ("/linux/resources/cpu/realtimePeriod", "microseconds, on cgroup v1"),
    ("/linux/resources/cpu/cpus", "a list of CPUs such as 0-3,7"),
    ("/linux/resources/cpu/mems", "a list of memory nodes such as 0-1"),
    ("/linux/resources/cpu/idle", "0 or 1"),
    ("/linux/resources/pids", "an object with a limit"),
    ("/linux/resources/pids/limit", "a number of processes, -1 for no limit"),
    ("/linux/resources/blockIO", "weights and throttles"),
    ("/linux/resources/blockIO/weight", "10 to 1000"),
    ("/linux/resources/blockIO/leafWeight", "10 to 1000, on cgroup v1"),
    ("/linux/resources/blockIO/weightDevice", "a list of weights by device"),
    ("/linux/resources/blockIO/weightDevice/*/major", "a device number"),
    ("/linux/resources/blockIO/weightDevice/*/minor", "a device number"),
    ("/linux/resources/blockIO/weightDevice/*/weight", "10 to 1000"),
    ("/linux/resources/blockIO/weightDevice/*/leafWeight", "10 to 1000, on cgroup v1"),
    ("/linux/resources/blockIO/throttleReadBpsDevice", "a list of rates by device"),
    ("/linux/resources/blockIO/throttleReadBpsDevice/*/major", "a device number"),
    ("/linux/resources/blockIO/throttleReadBpsDevice/*/minor", "a device number"),
    ("/linux/resources/blockIO/throttleReadBpsDevice/*/rate", "bytes a second"),
    ("/linux/resources/blockIO/throttleWriteBpsDevice", "a list of rates by device"),
    ("/linux/resources/blockIO/throttleWriteBpsDevice/*/major", "a device number"),
    ("/linux/resources/blockIO/throttleWriteBpsDevice/*/minor", "a device number"),
    ("/linux/resources/blockIO/throttleWriteBpsDevice/*/rate", "bytes a second"),
    ("/linux/resources/blockIO/throttleReadIOPSDevice", "a list of rates by device"),
    ("/linux/resources/blockIO/throttleReadIOPSDevice/*/major", "a device number"),
    ("/linux/resources/blockIO/throttleReadIOPSDevice/*/minor", "a device number"),
    ("/linux/resources/blockIO/throttleReadIOPSDevice/*/rate", "operations a second"),
    ("/linux/resources/blockIO/throttleWriteIOPSDevice", "a list of rates by device"),
    ("/linux/resources/blockIO/throttleWriteIOPSDevice/*/major", "a device number"),
    ("/linux/resources/blockIO/throttleWriteIOPSDevice/*/minor", "a device number"),
    ("/linux/resources/blockIO/throttleWriteIOPSDevice/*/rate", "operations a second"),
    ("/linux/resources/hugepageLimits", "a list of limits"),
    ("/linux/resources/hugepageLimits/*/pageSize", "a size such as 2MB"),
    ("/linux/resources/hugepageLimits/*/limit", "bytes"),
    ("/linux/resources/network", "a class and priorities"),
    ("/linux/resources/network/classID", "a number, on cgroup v1"),
    ("/linux/resources/network/priorities", "a list of priorities by network device, on cgroup v1"),
    ("/linux/resources/network/priorities/*/name", "a network device"),
    ("/linux/resources/network/priorities/*/priority", "a number"),
    ("/linux/resources/rdma/*/hcaHandles", "a number of handles"),
    ("/linux/resources/rdma/*/hcaObjects", "a number of objects"),
    ("/linux/resources/unified/*", "a value for this file of cgroup v2"),
    ("/linux/rootfsPropagation", "private, slave, shared or unbindable, recursive with a leading r"),
    ("/linux/seccomp/defaultAction", "SCMP_ACT_ERRNO or another action"),
    ("/linux/seccomp/defaultErrnoRet", "an errno, with SCMP_ACT_ERRNO or SCMP_ACT_TRACE"),
    ("/linux/seccomp/architectures", "a list of SCMP_ARCH_*"),
    ("/linux/seccomp/architectures/*", "SCMP_ARCH_X86_64 or another"),
    ("/linux/seccomp/flags", "a list of SECCOMP_FILTER_FLAG_*"),
    ("/linux/seccomp/flags/*", "SECCOMP_FILTER_FLAG_LOG or another"),
    ("/linux/seccomp/listenerPath", "a socket of the host, with SCMP_ACT_NOTIFY"),
    ("/linux/seccomp/listenerMetadata", "a string, with listenerPath"),
    ("/linux/seccomp/syscalls", "a list of rules"),
    ("/linux/seccomp/syscalls/*/name", "the name of a system call: profiles of old have one"),
    ("/linux/seccomp/syscalls/*/names", "a list of system calls"),
    ("/linux/seccomp/syscalls/*/names/*", "the name of a system call"),
    ("/linux/seccomp/syscalls/*/action", "SCMP_ACT_ALLOW or another action"),
    ("/linux/seccomp/syscalls/*/errnoRet", "an errno, with SCMP_ACT_ERRNO or SCMP_ACT_TRACE"),
    ("/linux/seccomp/syscalls/*/args", "a list of comparisons"),
    ("/linux/seccomp/syscalls/*/args/*/index", "0 to 5"),
    ("/linux/seccomp/syscalls/*/args/*/value", "a number"),
    ("/linux/seccomp/syscalls/*/args/*/valueTwo", "a number"),
    ("/linux/seccomp/syscalls/*/args/*/op", "SCMP_CMP_EQ or another comparison"),
    ("/linux/sysctl/*", "a string; the key of a namespace that the container owns"),
    ("/linux/maskedPaths", "a list of absolute paths"),
    ("/linux/maskedPaths/*", "an absolute path in the container"),
    ("/linux/readonlyPaths", "a list of absolute paths"),
    ("/linux/readonlyPaths/*", "an absolute path in the container"),
    ("/linux/mountLabel", "a label, on a kernel with SELinux"),
    ("/linux/intelRdt/closID", "the name of a resctrl group"),
    ("/linux/intelRdt/schemata", "a list of lines"),
    ("/linux/intelRdt/schemata/*", "a line such as L3:0=f"),
    ("/linux/intelRdt/l3CacheSchema", "a line of a schemata file"),
    ("/linux/intelRdt/memBwSchema", "a line of a schemata file"),
    ("/linux/intelRdt/enableMonitoring", "true or false"),
    ("/linux/intelRdt/enableCMT", "true or false"),
    ("/linux/intelRdt/enableMBM", "true or false"),
    ("/linux/memoryPolicy/mode", "MPOL_BIND or another of set_mempolicy(2)"),
    ("/linux/memoryPolicy/nodes", "a list of nodes such as 0-3,7"),
    ("/linux/memoryPolicy/flags", "a list of MPOL_F_*"),
    ("/linux/memoryPolicy/flags/*", "MPOL_F_STATIC_NODES or another of set_mempolicy(2)"),
    ("/linux/personality/domain", "LINUX or LINUX32"),
    ("/linux/personality/flags", "an empty list"),
    ("/linux/personality/flags/*", "nothing: the specification defines no flags"),
];

/// Platforms that a configuration may also speak to.
const OTHER_PLATFORMS: [&str; 5] = ["freebsd", "solaris", "vm", "windows", "zos"];

/// What is expected at a pointer; of the nearest pattern above it where none fits.
pub fn expected(pointer: &str) -> Option<&'static str> {
    let parts: Vec<&str> = pointer.split('/').collect();
    let entry = SCHEMA.iter().find(|(pattern, _)| is_of(pattern, &parts));
    entry.map(|(_, expected)| *expected)
}

fn is_of(pattern: &str, parts: &[&str]) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    pattern.len() == parts.len() && fits(&pattern, parts)
}

fn fits(pattern: &[&str], parts: &[&str]) -> bool {
    pattern.iter().zip(parts).all(|(pattern, part)| *pattern == "*" || pattern == part)
}

/// Whether anything is known of an object at a pointer, and if so the names of its properties. `None` for maps, whose
/// keys are free, and for objects that the table says nothing about.
pub fn properties(pointer: &str) -> Option<Vec<&'static str>> {
    let parts: Vec<&str> = pointer.split('/').collect();
    let mut names = Vec::new();
    for (pattern, _) in SCHEMA {
        let pattern: Vec<&str> = pattern.split('/').collect();
        if pattern.len() > parts.len() && fits(&pattern[..parts.len()], &parts) {
            match pattern[parts.len()] {
                // The lists of hooks have names; what is below them is alike.
                "*" if parts.len() == 2 && parts[1] == "hooks" => {}
                "*" => return None,
                name if !names.contains(&name) => names.push(name),
                _ => {}
            }
        }
    }
    if pointer.is_empty() {
        names.extend(OTHER_PLATFORMS);
    }
    Some(names).filter(|names| !names.is_empty())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use rspawn_planner::oci;
    use serde::de::{IntoDeserializer, Visitor, value};
    use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

    use super::*;

    #[test]
    fn patterns_fit_what_they_say() {
        assert_eq!(expected("/mounts/12/type"), Some("a type of filesystem, or `bind`"));
        assert_eq!(expected("/mounts/12/types"), None);
        assert!(properties("").unwrap().contains(&"process"));
        assert!(properties("/mounts/3").unwrap().contains(&"uidMappings"));
        assert!(properties("/hooks").unwrap().contains(&"poststop"));
        assert_eq!(properties("/annotations"), None);
        assert_eq!(properties("/linux/sysctl"), None);
        assert!(properties("/linux/resources/memory").unwrap().contains(&"swappiness"));
        assert_eq!(properties("/linux/resources/unified"), None);
    }

    /// Answers whatever a type asks for, and notes where it was asked.
    #[derive(Clone)]
    struct Probe<'a> {
        at: String,
        asked: &'a RefCell<BTreeSet<String>>,
    }

    impl Probe<'_> {
        fn below(&self, name: &str) -> Self {
            Self { at: format!("{}/{name}", self.at), asked: self.asked }
        }
    }

    impl<'de> IntoDeserializer<'de> for Probe<'_> {
        type Deserializer = Self;

        fn into_deserializer(self) -> Self {
            self
        }
    }

    impl<'de> Deserializer<'de> for Probe<'_> {
        type Error = value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
            // A number, a string, or whatever a property takes that is not looked into.
            self.asked.borrow_mut().insert(self.at.clone());
            visitor.visit_u8(1)
        }

        fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
            self.asked.borrow_mut().insert(self.at);
            visitor.visit_bool(true)
        }

        fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
            self.asked.borrow_mut().insert(self.at);
            visitor.visit_str("x")
        }

        fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
            visitor.visit_some(self)
        }

        fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
            self.asked.borrow_mut().insert(self.at.clone());
            visitor.visit_seq(value::SeqDeserializer::new(std::iter::once(self.below("*"))))
        }

        fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
            visitor.visit_map(value::MapDeserializer::new(std::iter::once(("*", self.below("*")))))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, value::Error> {
            self.asked.borrow_mut().insert(self.at.clone());
            visitor.visit_map(value::MapDeserializer::new(fields.iter().map(|name| (*name, self.below(name)))))
        }

        forward_to_deserialize_any! {
            i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct newtype_struct
            tuple tuple_struct enum identifier ignored_any
        }
    }

    /// What the types of rspawn-planner read is what this table has, and the other way about.
    #[test]
    fn the_table_has_what_the_planner_reads() {
        let asked = RefCell::new(BTreeSet::new());
        oci::Spec::deserialize(Probe { at: String::new(), asked: &asked }).expect("a configuration");
        let asked = asked.into_inner();
        // A property has an entry by itself or by what is below it, with a hook standing for all hooks.
        let is_known = |place: &str| expected(place).is_some() || properties(place).is_some();
        let missing: Vec<&String> = asked.iter().filter(|place| !is_known(place)).collect();
        let is_read = |pattern: &str| asked.iter().any(|place| is_of(pattern, &place.split('/').collect::<Vec<_>>()));
        // Those of Windows are told from misspelt ones.
        let of_linux = SCHEMA.iter().filter(|(_, expected)| !expected.contains("Windows"));
        let unread: Vec<&str> = of_linux.map(|(pattern, _)| *pattern).filter(|pattern| !is_read(pattern)).collect();
        assert_eq!((missing, unread), (Vec::<&String>::new(), Vec::new()));
    }
}
