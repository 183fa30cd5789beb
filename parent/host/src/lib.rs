//! Everything of rspawn's that runs with the invoker's rights and asks or changes the host: what the planner may know
//! of it ([`facts`]), what the invoker names ([`inputs`]), the state directories ([`state`]), containers that run
//! ([`containers`]), processes that keep a right for one purpose ([`deputies`]), and how rights are given up
//! ([`sandbox`]).
#![forbid(unsafe_code)]

pub mod containers;
pub mod deputies;
pub mod errors;
pub mod facts;
pub mod inputs;
pub mod sandbox;
pub mod state;
pub mod streams;
mod user_namespace;
