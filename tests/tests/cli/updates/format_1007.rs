//! Records of version 0x52531007 (rspawn 0.1), as they are on the disks of those who run it. Never to be changed: a
//! later version of rspawn has to read what this writes.
use bincode::Encode;
use rspawn_proto::record as present;

pub const VERSION: u32 = 0x5253_1007;

#[derive(Debug, PartialEq, Encode)]
pub struct Record {
    pub version: u32,
    pub id: String,
    pub bundle: String,
    pub created: u64,
    pub owner: u32,
    pub pid: i32,
    pub start_time: u64,
    pub boot: String,
    pub foreground: bool,
    pub init: Init,
    pub new_keyring: bool,
    /// Bits: user 0, mount 1, pid 2, network 3, ipc 4, uts 5, cgroup 6, time 7.
    pub namespaces: u8,
    pub cgroups: Vec<Cgroup>,
    pub unit: Option<String>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
    pub state_head: String,
    pub state_tail: String,
    pub allowed_hooks: Option<Vec<PathRule>>,
}

#[derive(Debug, PartialEq, Encode)]
pub enum Init {
    Supervise,
    Exec,
}

#[derive(Debug, PartialEq, Encode)]
pub struct Cgroup {
    pub hierarchy: String,
    pub path: String,
    pub shared: bool,
}

#[derive(Debug, PartialEq, Encode)]
pub struct Hook {
    pub origin: String,
    pub path: String,
    pub argv: Vec<String>,
    pub env: Option<Vec<String>>,
    pub timeout: u32,
    pub outputs: [Option<String>; 2],
}

#[derive(Debug, PartialEq, Encode)]
pub struct PathRule {
    pub path: String,
    pub below: bool,
    pub read_only: bool,
}

pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    bincode::encode_to_vec(value, bincode::config::standard()).expect("bytes")
}

impl From<&present::CgroupDir> for Cgroup {
    fn from(own: &present::CgroupDir) -> Self {
        Self { hierarchy: own.hierarchy.to_string(), path: own.path.to_string(), shared: own.shared }
    }
}

impl From<&rspawn_proto::hook::Hook> for Hook {
    fn from(own: &rspawn_proto::hook::Hook) -> Self {
        let text = |words: &[rspawn_proto::ids::Text]| words.iter().map(ToString::to_string).collect();
        Self {
            origin: own.origin.clone(),
            path: own.path.to_string(),
            argv: text(&own.argv),
            env: own.env.as_deref().map(text),
            timeout: own.timeout,
            outputs: own.outputs.each_ref().map(|path| path.as_ref().map(ToString::to_string)),
        }
    }
}

/// What that version would have recorded of a container that the present one has made.
impl From<&present::Record> for Record {
    fn from(own: &present::Record) -> Self {
        let kinds = rspawn_proto::namespaces::Namespace::ALL;
        let bit = |kind: rspawn_proto::namespaces::Namespace| match kind.name() {
            "user" => 1,
            "mount" => 2,
            "pid" => 4,
            "network" => 8,
            "ipc" => 16,
            "uts" => 32,
            "cgroup" => 64,
            "time" => 128,
            other => panic!("that version did not know {other}"),
        };
        let allowed = own.deferred.allowed.as_ref().map(|rules| {
            let rule = |rule: &rspawn_proto::policy::PathRule| PathRule {
                path: rule.path.clone(),
                below: rule.below,
                read_only: rule.read_only,
            };
            rules.iter().map(rule).collect()
        });
        Self {
            version: VERSION,
            id: own.id.to_string(),
            bundle: own.bundle.to_string(),
            created: own.created,
            owner: own.owner,
            pid: own.pid,
            start_time: own.start_time,
            boot: own.boot.to_string(),
            foreground: own.foreground,
            init: match own.init {
                rspawn_proto::plan::InitMode::Supervise => Init::Supervise,
                rspawn_proto::plan::InitMode::Exec => Init::Exec,
            },
            new_keyring: own.new_keyring,
            namespaces: kinds.into_iter().filter(|kind| own.namespaces.contains(*kind)).map(bit).sum(),
            cgroups: own.cgroups.iter().map(Cgroup::from).collect(),
            unit: own.unit.as_ref().map(ToString::to_string),
            poststart: own.deferred.poststart.iter().map(Hook::from).collect(),
            poststop: own.deferred.poststop.iter().map(Hook::from).collect(),
            state_head: own.deferred.state.head.clone(),
            state_tail: own.deferred.state.tail.clone(),
            allowed_hooks: allowed,
        }
    }
}
