//! What `state` and `list` print of a container: runc's members.
use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

use rspawn_proto::record::Record;
use serde_json::{Map, Value, json};

use rspawn_host::inputs::bundle::read_config;
use rspawn_host::state::{Container, Ending, Status};
use rspawn_planner::oci::{self, STATE_VERSION, Spec};

/// A container as it was found, with everything opened that is still to be read: what config.json says is read by a
/// confined process.
pub struct View {
    pub record: Record,
    pub status: Status,
    /// Of one that has stopped, if it can be known.
    pub ending: Option<Ending>,
    config: Option<File>,
}

impl View {
    pub fn of(container: &Container) -> Result<Self, String> {
        let status = container.status()?;
        let ending = if status == Status::Stopped { Ending::of(&container.record) } else { None };
        Ok(Self { record: container.record.clone(), status, ending, config: container.config_if_there()? })
    }

    /// 0 for one that has ended: its number may be another's by now.
    pub fn pid(&self) -> i32 {
        if self.status == Status::Stopped { 0 } else { self.record.pid }
    }

    /// RFC 3339.
    pub fn created(&self) -> String {
        humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(self.record.created)).to_string()
    }

    /// Reads the configuration, which can be done once. None if there is none, or none that can be understood: the
    /// container lives without it.
    pub fn spec(&self) -> Result<Option<Spec>, String> {
        let Some(config) = &self.config else { return Ok(None) };
        let bytes = read_config(config, "the container's configuration")?;
        Ok(oci::parse(&bytes).ok())
    }

    /// Where the container's root is, by its configuration.
    pub fn rootfs(&self, spec: Option<&Spec>) -> String {
        let bundle = self.record.bundle.as_str();
        spec.and_then(|spec| spec.root.as_ref()).map_or(String::new(), |root| {
            if root.path.starts_with('/') { root.path.clone() } else { format!("{bundle}/{}", root.path) }
        })
    }

    /// The members of runc's state. Reads the configuration.
    pub fn json(&self, owner: &str) -> Result<Value, String> {
        let spec = self.spec()?;
        let bundle = self.record.bundle.as_str();
        let rootfs = self.rootfs(spec.as_ref());
        let mut state = Map::from_iter([
            ("ociVersion".to_string(), json!(STATE_VERSION)),
            ("id".to_string(), json!(self.record.id.as_str())),
            ("pid".to_string(), json!(self.pid())),
            ("status".to_string(), json!(self.status.name())),
            ("bundle".to_string(), json!(bundle)),
            ("rootfs".to_string(), json!(rootfs)),
            ("created".to_string(), json!(self.created())),
            ("owner".to_string(), json!(owner)),
        ]);
        if let Some(spec) = spec.filter(|spec| !spec.annotations.is_empty()) {
            state.insert("annotations".into(), json!(spec.annotations));
        }
        Ok(Value::Object(state))
    }
}
