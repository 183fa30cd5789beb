//! Options that override a bundle: of `run`, `plan` and `check` alike, with systemd-nspawn's names.
use clap::Args;

use rspawn_host::inputs::settings_file;
use rspawn_planner::InitChoice;
use rspawn_planner::overrides::network::Network;
use rspawn_planner::overrides::{Overrides, Sourced, filter, mounts, user, values};

/// The heading under which --help lists them.
const HEADING: &str = "What the container is, beside the bundle";

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = HEADING)]
pub struct OverrideOptions {
    /// Settings file: a path, `yes` to look for NAME.nspawn where systemd-nspawn does, `no`. The default is `yes` with
    /// --directory, else `no`.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<String>,
    /// Run as this user of the container: UID or a name of its /etc/passwd; behind a colon GID or a name of its
    /// /etc/group.
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Working directory.
    #[arg(long, value_name = "PATH")]
    pub chdir: Option<String>,
    /// Set a variable; without a value, pass on the invoker's.
    #[arg(short = 'E', long, value_name = "NAME[=VALUE]")]
    pub setenv: Vec<String>,
    /// Host name.
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Keep PID 1 for rspawn-init, with the payload beside it: --init=supervise.
    #[arg(short, long)]
    pub as_pid2: bool,
    /// Bind a file or directory of the host; with a leading `-`, only if it exists.
    #[arg(long, value_name = "SOURCE[:PATH[:OPTIONS]]", allow_hyphen_values = true)]
    pub bind: Vec<String>,
    /// As --bind, read-only.
    #[arg(long, value_name = "SOURCE[:PATH[:OPTIONS]]", allow_hyphen_values = true)]
    pub bind_ro: Vec<String>,
    /// Mount an empty filesystem in memory.
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Mount directories of the host over each other, the lowest first; writes go to the highest.
    #[arg(long, value_name = "LOWER:…:UPPER:PATH")]
    pub overlay: Vec<String>,
    /// As --overlay, read-only.
    #[arg(long, value_name = "LOWER:…:UPPER:PATH")]
    pub overlay_ro: Vec<String>,
    /// Cover a file or directory; with a leading `-`, only if it exists.
    #[arg(long, value_name = "PATH", allow_hyphen_values = true)]
    pub inaccessible: Vec<String>,
    /// Make the root filesystem read-only.
    #[arg(long)]
    pub read_only: bool,
    /// Keep no changes: `yes` (only /usr is the image's), `state` (all but /var is read-only), `overlay`, `no`.
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    pub volatile: Option<String>,
    /// Whose network: `host`, `none` (its own, with a loopback device alone; also `private`), or a namespace's file.
    #[arg(long, value_name = "host|none|FILE")]
    pub network: Option<String>,
    /// --network=none.
    #[arg(long, visible_alias = "network-none", conflicts_with = "network")]
    pub private_network: bool,
    /// Move a network device of the host into the container.
    #[arg(long, value_name = "HOST[:CONTAINER]")]
    pub network_interface: Vec<String>,
    /// --network=FILE.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["network", "private_network", "network_interface"])]
    pub network_namespace_path: Option<String>,
    /// A user namespace: `identity`, or the host's id that is root inside, and how many follow.
    #[arg(long, value_name = "FIRST[:COUNT]")]
    pub private_users: Option<String>,
    /// Add capabilities, or `all`.
    #[arg(long, value_name = "CAP,…")]
    pub capability: Vec<String>,
    /// Add capabilities that a user other than root keeps.
    #[arg(long, value_name = "CAP,…")]
    pub ambient_capability: Vec<String>,
    /// Take capabilities away, or `all`.
    #[arg(long, value_name = "CAP,…")]
    pub drop_capability: Vec<String>,
    /// Whether set-uid programs and file capabilities have an effect.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    pub no_new_privileges: Option<String>,
    /// Permit system calls and systemd's @sets of them; prohibit them with a leading `~`.
    #[arg(long, value_name = "[~]CALL…")]
    pub system_call_filter: Vec<String>,
    /// Set a resource limit.
    #[arg(long, value_name = "LIMIT=SOFT[:HARD]")]
    pub rlimit: Vec<String>,
    /// How readily the kernel kills it when memory is short: -1000 to 1000.
    #[arg(long, value_name = "SCORE", allow_hyphen_values = true)]
    pub oom_score_adjust: Option<String>,
    /// CPUs to run on: 0-3,7.
    #[arg(long, value_name = "CPUS")]
    pub cpu_affinity: Option<String>,
    /// What uname reports: x86 or x86-64.
    #[arg(long, value_name = "ARCH")]
    pub personality: Option<String>,
    /// Signal for the container where rspawn gets SIGTERM.
    #[arg(long, value_name = "SIGNAL")]
    pub kill_signal: Option<String>,
}

impl OverrideOptions {
    pub fn settings(&self) -> Result<Option<settings_file::Choice>, String> {
        let choice = self.settings.as_deref().map(settings_file::Choice::parse).transpose();
        choice.map_err(|message| format!("--settings: {message}"))
    }

    /// The options as values. Variables named alone come from this process's environment, relative sources of mounts
    /// start at its working directory.
    pub fn overrides(&self, command: &[String]) -> Result<Overrides, String> {
        let here = std::env::current_dir().ok().and_then(|path| path.into_os_string().into_string().ok());
        let base = here.as_deref();
        let mut mounts = each("bind", &self.bind, |text| mounts::bind(text, false, base))?;
        mounts.extend(each("bind-ro", &self.bind_ro, |text| mounts::bind(text, true, base))?);
        mounts.extend(each("tmpfs", &self.tmpfs, mounts::tmpfs)?);
        mounts.extend(each("overlay", &self.overlay, |text| mounts::overlay(text, false, base))?);
        mounts.extend(each("overlay-ro", &self.overlay_ro, |text| mounts::overlay(text, true, base))?);
        let inherited = |name: &str| std::env::var(name).ok();
        let env = each("setenv", &self.setenv, |text| values::assignment(text, inherited))?;
        let env = env.into_iter().filter_map(|said| Some(Sourced::new(said.value?, said.origin)));
        let flag = |set: bool, name: &str| set.then(|| Sourced::new(true, format!("--{name}")));
        Ok(Overrides {
            untrusted: false,
            args: (!command.is_empty()).then(|| Sourced::new(command.to_vec(), "the command line")),
            env: env.collect(),
            user: one("user", &self.user, user::parse)?,
            cwd: one("chdir", &self.chdir, values::inside)?,
            hostname: one("hostname", &self.hostname, |text| Ok(text.to_string()))?,
            personality: one("personality", &self.personality, values::personality)?,
            no_new_privileges: one("no-new-privileges", &self.no_new_privileges, values::boolean)?,
            oom_score: one("oom-score-adjust", &self.oom_score_adjust, values::oom_score)?,
            rlimits: each("rlimit", &self.rlimit, values::rlimit)?,
            capabilities: each("capability", &self.capability, values::capabilities)?,
            ambient_capabilities: each("ambient-capability", &self.ambient_capability, values::capabilities)?,
            dropped_capabilities: each("drop-capability", &self.drop_capability, values::capabilities)?,
            system_calls: each("system-call-filter", &self.system_call_filter, filter::parse)?,
            suppress_sync: None,
            read_only: flag(self.read_only, "read-only"),
            volatile: one("volatile", &self.volatile, values::volatile)?,
            mounts,
            inaccessible: each("inaccessible", &self.inaccessible, values::maybe_inside)?,
            network: self.network()?,
            network_interfaces: each("network-interface", &self.network_interface, values::interface)?,
            private_users: one("private-users", &self.private_users, values::private_users)?,
            init: self.as_pid2.then(|| Sourced::new(InitChoice::Supervise, "--as-pid2")),
            kill_signal: one("kill-signal", &self.kill_signal, values::signal)?,
            cpu_affinity: one("cpu-affinity", &self.cpu_affinity, values::cpus)?,
        })
    }

    fn network(&self) -> Result<Option<Sourced<Network>>, String> {
        if self.private_network {
            return Ok(Some(Sourced::new(Network::Own, "--private-network")));
        }
        let joined = |text: &str| values::inside(text).map(Network::Joined);
        let joined = one("network-namespace-path", &self.network_namespace_path, joined)?;
        one("network", &self.network, Network::parse).map(|said| said.or(joined))
    }
}

fn said<T>(name: &str, text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Sourced<T>, String> {
    let origin = format!("--{name}={text}");
    match parse(text) {
        Ok(value) => Ok(Sourced::new(value, origin)),
        Err(message) => Err(format!("{origin}: {message}")),
    }
}

fn one<T>(
    name: &str,
    text: &Option<String>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Sourced<T>>, String> {
    text.as_deref().map(|text| said(name, text, parse)).transpose()
}

fn each<T>(name: &str, texts: &[String], parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<Sourced<T>>, String> {
    texts.iter().map(|text| said(name, text, &parse)).collect()
}
