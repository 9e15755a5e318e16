//! The node against hand-made events.
