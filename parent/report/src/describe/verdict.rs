//! What the policy says of a container, as it is said at a start.
use rspawn_proto::policy::Violation;

use super::capabilities::capabilities;

/// Why a container is refused.
pub fn refusal(violations: &[Violation]) -> String {
    let lines: Vec<String> = violations.iter().map(finding).collect();
    format!("the policy refuses this container: {}", lines.join("; "))
}

/// One thing that the policy does not grant.
pub fn finding(found: &Violation) -> String {
    let Violation { origin, rule, .. } = found;
    let what = violation(found);
    match (rule.as_str(), origin.as_str()) {
        // How many more there are.
        ("", "") => what,
        // No policy's finding.
        ("", origin) => format!("{origin}: the container {what}"),
        (rule, origin) => format!("{rule}: {origin}: the container {what}"),
    }
}

/// Names of the capabilities in a set.
/// What a policy does not grant that a container does.
pub fn violation(violation: &Violation) -> String {
    let names =
        if violation.capabilities == 0 { String::new() } else { capabilities(violation.capabilities).join(" ") };
    format!("{}{names}", violation.what)
}
