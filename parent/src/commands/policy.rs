//! `rspawn policy`: a policy file in the form that rspawn-setup --check takes.
use rspawn_proto::codec;

use crate::cli::PolicyCommand;
use crate::policy_file;
use crate::streams;

pub fn policy(arguments: PolicyCommand) -> Result<i32, String> {
    let policy = policy_file::load(Some(&arguments.file))?;
    let bytes = codec::encode(&policy).ok_or("the policy cannot be encoded")?;
    streams::print(bytes).map(|()| 0)
}
