//! `--init`.
use clap::ValueEnum;
use rspawn_planner::InitChoice;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InitOption {
    Auto,
    Supervise,
    Exec,
}

impl InitOption {
    /// The verb's option; or the one before the verb, where that says nothing.
    pub fn or(self, global: InitOption) -> InitChoice {
        if self == InitOption::Auto { global.into() } else { self.into() }
    }
}

impl From<InitOption> for InitChoice {
    fn from(option: InitOption) -> Self {
        match option {
            InitOption::Auto => InitChoice::Auto,
            InitOption::Supervise => InitChoice::Supervise,
            InitOption::Exec => InitChoice::Exec,
        }
    }
}
