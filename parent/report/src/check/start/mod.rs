//! What a start would be refused by, as far as it can be told before: a plan held against facts of the machine and the
//! files that it names. Each judgement is a rule of the kernel's or of the stages', and says nothing where it does not
//! know: what `rspawn run` takes is no error here.
mod filesystems;
mod filter;
mod limits;
mod machine;
mod places;
mod process;
mod programs;
mod sources;
mod subject;
mod sysctls;
mod tree;

use rspawn_planner::problem::Problem;

pub use subject::Start;

/// Everything that a start would stop at. The error is that nobody answers questions about files.
pub fn problems(start: &Start) -> Result<Vec<Problem>, String> {
    let mut problems = Vec::new();
    sources::judge(start, &mut problems)?;
    filesystems::judge(start, &mut problems);
    limits::judge(start, &mut problems);
    machine::judge(start, &mut problems);
    process::judge(start, &mut problems);
    sysctls::judge(start, &mut problems)?;
    let tree = places::judge(start, &mut problems)?;
    programs::judge(start, tree.as_ref(), &mut problems)?;
    filter::judge(start, &mut problems);
    problems.dedup();
    Ok(problems)
}
