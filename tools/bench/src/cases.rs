//! The cases, one file each.

pub mod catchup;
pub mod fanout;
pub mod groups;
pub mod hostile;
pub mod publish;
pub mod subscriptions;
