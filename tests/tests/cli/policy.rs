//! The administrator's policy from outside: each key met exactly, missed by one, left out, reached by a link, a bind mount,
//! a parent; by a plan that lies, by `exec` and `update`, and while somebody renames. Every configuration that one policy
//! refuses another grants, so that a policy which refuses everything fails as well; and what is refused has done nothing.
#[path = "policy/hooks.rs"]
mod hooks;
#[path = "policy/inside.rs"]
mod inside;
#[path = "policy/namespaces.rs"]
mod namespaces;
#[path = "policy/paths.rs"]
mod paths;
#[path = "policy/signing.rs"]
mod signing;
#[path = "policy/subset.rs"]
mod subset;
#[path = "policy/trial.rs"]
mod trial;

use rspawn_tests::cannot_make_containers;
use trial::Counts;

#[test]
fn what_one_policy_refuses_another_grants() {
    if cannot_make_containers() {
        return;
    }
    let mut counts = Counts::default();
    paths::trials(&mut counts);
    inside::trials(&mut counts);
    namespaces::trials(&mut counts);
    hooks::trials(&mut counts);
    let Counts { granted, refused } = counts;
    println!("policy: {granted} configurations granted, {refused} refused");
    assert!(granted + refused >= 200 && granted >= 60 && refused >= 100, "{granted} granted, {refused} refused");
}
