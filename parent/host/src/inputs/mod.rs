//! What the invoker names, opened with the invoker's own rights before anything untrusted is parsed.
pub mod bundle;
pub mod cli_inputs;
pub mod nspawn;
pub mod policy_file;
mod policy_links;
pub mod settings_file;
