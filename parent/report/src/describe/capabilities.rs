//! Capabilities by name.
use rspawn_planner::tables::capability_name;

/// The names of those in a set.
pub fn capabilities(bits: u64) -> Vec<String> {
    (0..64).filter(|number| bits & (1 << number) != 0).map(capability_name).collect()
}
