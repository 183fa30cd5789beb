//! `hooks` (config.md, "POSIX-platform Hooks"): what runs when, and the state that each reads.
use crate::prelude::*;
use rspawn_proto::hook::{DeferredHooks, Hook, Hooks, StateTemplate};
use rspawn_proto::ids::HostPath;
use rspawn_proto::plan::RootfsOp;
use serde_json::json;

use crate::oci::{self, STATE_VERSION};
use crate::planner::Planner;

/// Hooks that look for the container's root by its path on the host: it is attached there, in the container's mount
/// namespace, so that what they mount below it is the container's.
pub fn look_for_the_root(planner: &Planner) -> bool {
    let hooks = planner.spec.hooks.as_ref();
    hooks.is_some_and(|hooks| {
        !(hooks.prestart.is_empty() && hooks.create_runtime.is_empty() && hooks.create_container.is_empty())
    })
}

/// Every list but that of startContainer, and the step at which the first of them run: everything is mounted then, and
/// neither names nor sysctls are set, so that those of a network device find the device that a hook has made.
pub fn plan(planner: &mut Planner) -> Hooks {
    let state = state_of_hooks(planner);
    let lists = planner.spec.hooks.clone().unwrap_or_default();
    let mut runtime = list(planner, "prestart", &lists.prestart);
    runtime.extend(list(planner, "createRuntime", &lists.create_runtime));
    let container = list(planner, "createContainer", &lists.create_container);
    let poststart = list(planner, "poststart", &lists.poststart);
    let poststop = list(planner, "poststop", &lists.poststop);
    if look_for_the_root(planner) {
        planner.rootfs("/hooks", RootfsOp::Hooks);
    }
    Hooks { runtime, container, deferred: DeferredHooks { poststart, poststop, state, allowed: None } }
}

/// startContainer, whose paths are the container's.
pub fn start(planner: &mut Planner) -> Vec<Hook> {
    let lists = planner.spec.hooks.clone().unwrap_or_default();
    let mut hooks = list(planner, "startContainer", &lists.start_container);
    // The files are the host's, and out of its sight.
    hooks.iter_mut().for_each(|hook| hook.outputs = Default::default());
    hooks
}

/// crun's annotations for what hooks say: files to append it to.
fn outputs(planner: &mut Planner) -> [Option<HostPath>; 2] {
    ["run.oci.hooks.stdout", "run.oci.hooks.stderr"].map(|name| {
        let path = planner.spec.annotations.get(name)?;
        HostPath::new(path.as_str()).map_err(|reason| planner.problem(format!("/annotations/{name}"), reason)).ok()
    })
}

fn list(planner: &mut Planner, name: &str, hooks: &[oci::Hook]) -> Vec<Hook> {
    let mut list = Vec::with_capacity(hooks.len());
    let outputs = if hooks.is_empty() { Default::default() } else { outputs(planner) };
    for (index, hook) in hooks.iter().enumerate() {
        let origin = format!("/hooks/{name}/{index}");
        let path = HostPath::new(hook.path.as_str());
        let path = path.map_err(|reason| planner.problem(format!("{origin}/path"), reason)).ok();
        let mut texts = |member: &str, words: &[String]| {
            let pointer = |index| format!("{origin}/{member}/{index}");
            let texts = words.iter().enumerate().filter_map(|(index, word)| planner.text(&pointer(index), word));
            texts.collect::<Vec<_>>()
        };
        let argv = texts("args", &hook.args);
        let env = hook.env.as_deref().map(|env| texts("env", env));
        let timeout = match hook.timeout.map(u32::try_from) {
            None => 0,
            Some(Ok(seconds @ 1..)) => seconds,
            Some(_) => {
                planner.problem(format!("{origin}/timeout"), "the timeout must be at least one second");
                0
            }
        };
        list.extend(path.map(|path| Hook { origin, path, argv, env, timeout, outputs: outputs.clone() }));
    }
    list
}

/// The state that hooks read; nothing where there is none to read it.
fn state_of_hooks(planner: &Planner) -> StateTemplate {
    if planner.spec.hooks.iter().flat_map(oci::Hooks::lists).any(|(_, list)| !list.is_empty()) {
        state(planner)
    } else {
        StateTemplate::default()
    }
}

/// The state of runtime.md, cut where the status will be, and the pid of a container that is yet to come.
pub fn state(planner: &Planner) -> StateTemplate {
    let id = planner.options.id.as_str();
    let pid = planner.options.first.map_or_else(String::new, |pid| format!(",\"pid\":{pid}"));
    let mut tail = format!("{pid},\"bundle\":{}", json!(planner.options.bundle));
    if !planner.spec.annotations.is_empty() {
        tail.push_str(&format!(",\"annotations\":{}", json!(planner.spec.annotations)));
    }
    tail.push('}');
    StateTemplate { head: format!("{{\"ociVersion\":\"{STATE_VERSION}\",\"id\":\"{id}\",\"status\":"), tail }
}

#[cfg(test)]
mod tests {
    use rspawn_proto::ids::ContainerId;
    use serde_json::Value;

    use super::*;
    use crate::facts::Facts;
    use crate::options::{InitChoice, Options};
    use rspawn_proto::plan::Kind;

    #[test]
    fn the_state_is_json_with_and_without_a_pid() {
        let annotations = [("a\"b".to_string(), "c\\".to_string())].into();
        let hooks = Some(oci::Hooks { poststop: vec![oci::Hook::default()], ..oci::Hooks::default() });
        let spec = oci::Spec { annotations, hooks, ..oci::Spec::default() };
        let options = Options::dry_run("x", "/b \"q\"".into(), InitChoice::Auto).unwrap();
        let facts = Facts::default();
        let planner = Planner::new(&spec, &facts, &options, Kind::Container);
        assert_eq!(options.id, ContainerId::new("x").unwrap());
        let template = state(&planner);
        let text = template.fill("running", Some(7));
        let state: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&state["status"], &state["pid"], &state["id"]), (&json!("running"), &json!(7), &json!("x")));
        assert_eq!((&state["bundle"], &state["annotations"]["a\"b"]), (&json!("/b \"q\""), &json!("c\\")));
        let state: Value = serde_json::from_str(&template.fill("stopped", None)).unwrap();
        assert!(state.get("pid").is_none());
    }
}
