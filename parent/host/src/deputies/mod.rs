//! Second processes of rspawn's own: each keeps a right that the first one gives up, for one purpose.
pub mod ephemeral_dir;
pub mod path_answers;
pub mod path_prober;
pub mod stats_opener;
pub mod tidier;
