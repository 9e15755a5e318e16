//! The two commands that the page may use.

use std::sync::Arc;

use endpoint_secure_api::{Command, Refusal};
use tauri::State;
use tauri::ipc::{Channel, Response};

use crate::controller::{Controller, Hint};

/// Asks Secure. The answer's JSON is handed to the page unread.
#[tauri::command(async)]
pub fn call(controller: State<'_, Arc<Controller>>, command: Command) -> Result<Response, Refusal> {
    controller.call(&command).map(Response::new)
}

/// From now on hints go to this channel, and to no earlier one.
#[tauri::command]
pub fn subscribe(controller: State<'_, Arc<Controller>>, channel: Channel<Hint>) {
    controller.subscribe(channel);
}
