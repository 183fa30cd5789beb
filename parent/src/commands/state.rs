//! `rspawn state`: a container's state as JSON.
use crate::cli::{Global, State};
use crate::sandbox;
use crate::state::{StateRoot, View};
use crate::streams;

pub fn state(global: &Global, arguments: State) -> Result<i32, String> {
    let container = StateRoot::open(global.root.as_deref())?.container(&arguments.id)?;
    let view = View::of(&container);
    sandbox::confine().map_err(|error| format!("cannot confine itself: {error}"))?;
    streams::print(format!("{:#}\n", view.json(""))).map(|()| 0)
}
