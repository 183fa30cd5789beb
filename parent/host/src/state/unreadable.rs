//! Why there is no container to be had.

/// Why there is no container to be had. What is damaged `delete --force` removes unread; a fault says nothing about
/// the container, which may live.
pub enum Unreadable {
    Absent,
    Damaged(String),
    Fault(String),
}

impl From<Unreadable> for String {
    fn from(why: Unreadable) -> Self {
        match why {
            Unreadable::Absent => DOES_NOT_EXIST.into(),
            Unreadable::Damaged(reason) | Unreadable::Fault(reason) => reason,
        }
    }
}

/// What runc says, and clients match on.
pub const DOES_NOT_EXIST: &str = "container does not exist";

pub const EXISTS: &str = "container with given ID already exists";
