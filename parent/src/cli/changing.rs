//! The commands about the limits of a living container, with runc's options.
use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub struct Update {
    /// File with the limits as JSON, in the form of linux.resources; - for standard input. All else is ignored then.
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    #[command(flatten)]
    pub limits: Limits,
    /// Parts of the L3 caches, as "L3:0=7f0;1=1f", for a container with linux.intelRdt.
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth, as "MB:0=20;1=70", for a container with linux.intelRdt.
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    /// Policy to apply instead of /etc/rspawn/policy.conf.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Write a line of JSON for every step that is taken.
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// Name of the container.
    pub id: String,
}

/// One limit an option. As with runc, an empty value is none, and so is 0 where it makes no sense.
#[derive(Debug, Default, Args)]
pub struct Limits {
    /// Weight among the users of block devices, 10 to 1000.
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<String>,
    /// Period of the limit of CPU time, in microseconds.
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<String>,
    /// CPU time in each period, in microseconds; -1 for any.
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_quota: Option<String>,
    /// CPU time that may be saved up beyond the quota, in microseconds.
    #[arg(long, value_name = "US")]
    pub cpu_burst: Option<String>,
    /// Share of CPU time beside other containers.
    #[arg(long, value_name = "SHARE")]
    pub cpu_share: Option<String>,
    /// Period of the limit of real time, in microseconds.
    #[arg(long, value_name = "US")]
    pub cpu_rt_period: Option<String>,
    /// Real time in each period, in microseconds.
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<String>,
    /// CPUs to use.
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use.
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Limit of memory, such as 100M; -1 for none.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Memory that is kept when others want it.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Limit of memory and swap together; -1 for any swap.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Without effect: the kernel has no such limit any more.
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub kernel_memory: Option<String>,
    /// Without effect, as with runc.
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub kernel_memory_tcp: Option<String>,
    /// Most processes; -1 for any number.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
    /// 1 to run only when nobody else does, 0 not to.
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub cpu_idle: Option<String>,
}

#[derive(Debug, Args)]
pub struct Events {
    /// Time between two lines of statistics, such as 5s or 1m30s.
    #[arg(long, value_name = "DURATION", default_value = "5s", allow_hyphen_values = true)]
    pub interval: String,
    /// Print the statistics once.
    #[arg(long)]
    pub stats: bool,
    /// Name of the container.
    pub id: String,
}
