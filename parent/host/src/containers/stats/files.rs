//! The files that statistics are read from, held open: who reads them has given up the right to open any.
use std::collections::BTreeMap;
use std::fs::{self, File};

use rspawn_proto::record::CgroupDir;

use super::held_file::{readable, whole};
use super::values::Hugetlb;
use super::{file_names, resctrl};
use crate::containers::cgroups::is_resctrl;

/// One cgroup of the container, and its files.
struct Cgroup {
    /// Controllers of its v1 hierarchy; none for cgroup v2.
    controllers: Vec<String>,
    files: BTreeMap<String, File>,
}

pub struct Files {
    cgroups: Vec<Cgroup>,
    huge_page_sizes: Vec<String>,
    pub resctrl: resctrl::Files,
}

impl Files {
    /// Opens what there is.
    pub fn open(cgroups: &[CgroupDir]) -> Self {
        let mut huge_page_sizes = Vec::new();
        let open = |CgroupDir { hierarchy, path, .. }: &CgroupDir| {
            let controllers: Vec<String> =
                hierarchy.as_str().split(',').filter(|name| !name.is_empty()).map(str::to_string).collect();
            let wanted = if controllers.is_empty() { file_names::V2 } else { file_names::V1 };
            let mut names: Vec<String> = wanted.iter().map(|name| name.to_string()).collect();
            for entry in fs::read_dir(path.as_str()).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                // hugetlb.2MB.usage_in_bytes, and hugetlb.2MB.rsvd.usage_in_bytes beside it.
                if let Some((size, kind)) = name.strip_prefix("hugetlb.").and_then(|rest| rest.split_once('.')) {
                    if matches!(kind, "usage_in_bytes" | "current") {
                        huge_page_sizes.push(size.to_string());
                    }
                    names.push(name);
                }
            }
            let held = names.into_iter().filter_map(|name| Some((name.clone(), readable(&format!("{path}/{name}"))?)));
            Cgroup { controllers, files: held.collect() }
        };
        let resctrl = resctrl::Files::open(cgroups);
        let cgroups = cgroups.iter().filter(|cgroup| !is_resctrl(cgroup)).map(open).collect();
        Self { cgroups, huge_page_sizes, resctrl }
    }

    fn home(&self, controller: &str) -> Option<&Cgroup> {
        let v1 = self.cgroups.iter().find(|cgroup| cgroup.controllers.iter().any(|name| name == controller));
        v1.or_else(|| self.cgroups.iter().find(|cgroup| cgroup.controllers.is_empty()))
    }

    /// Whether a controller is in a hierarchy of v1.
    pub fn is_v1(&self, controller: &str) -> bool {
        self.home(controller).is_some_and(|cgroup| !cgroup.controllers.is_empty())
    }

    /// What a file says; nothing if it is not there, or not any more.
    pub fn text(&self, controller: &str, file: &str) -> String {
        let held = self.home(controller).and_then(|cgroup| cgroup.files.get(file));
        held.and_then(whole).unwrap_or_default()
    }

    /// The number in a file; 0 for anything else, such as "max".
    pub fn number(&self, controller: &str, file: &str) -> u64 {
        self.text(controller, file).trim().parse().unwrap_or(0)
    }

    /// The lines of a file of names and numbers.
    pub fn pairs(&self, controller: &str, file: &str) -> BTreeMap<String, u64> {
        let text = self.text(controller, file);
        let pair = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_string(), value.trim().parse().ok()?))
        };
        text.lines().filter_map(pair).collect()
    }

    pub fn huge_page_sizes(&self) -> &[String] {
        &self.huge_page_sizes
    }

    pub fn huge_pages(&self, size: &str) -> Hugetlb {
        let number = |what: &str| self.number("hugetlb", &format!("hugetlb.{size}.{what}"));
        if self.is_v1("hugetlb") {
            return Hugetlb {
                usage: number("usage_in_bytes"),
                max: number("max_usage_in_bytes"),
                failcnt: number("failcnt"),
            };
        }
        let events = self.pairs("hugetlb", &format!("hugetlb.{size}.events"));
        Hugetlb { usage: number("current"), max: 0, failcnt: events.get("max").copied().unwrap_or(0) }
    }
}
