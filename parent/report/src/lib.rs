//! What is said of a plan: its steps in words ([`describe`]), a person's view, JSON, and the difference of two
//! ([`show`]), and what is wrong with a bundle ([`check`]). Pure: nothing is opened, nothing is asked.
#![forbid(unsafe_code)]

pub mod check;
pub mod describe;
pub mod show;
#[cfg(test)]
mod tests;
