//! `treeline-ui`: the window's process.
//!
//! It draws, and hands commands through the door to Secure and answers back to the page. It has no
//! network, no files and no keys; `treeline` starts it with its control socket as descriptor 0.

mod commands;
mod controller;
mod window;

use std::alloc::System;
use std::process::ExitCode;
use std::sync::Arc;

use confinement::Isolation;
use controller::Controller;
use endpoint_secure_api::control::Control;
use zeroizing_alloc::ZeroAlloc;

/// What is freed is overwritten: a passphrase goes through here.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let hidden = confinement::hide();
    if hidden != Isolation::Full {
        // Standard error is the window's log.
        eprintln!("treeline-ui: its memory is not hidden: {hidden}");
    }
    let control = match Control::inherited() {
        Ok(control) => control,
        Err(error) => {
            eprintln!("treeline-ui: {error}");
            return ExitCode::from(2);
        }
    };
    let controller = Arc::new(Controller::default());
    let result = tauri::Builder::default()
        .manage(Arc::clone(&controller))
        .invoke_handler(tauri::generate_handler![
            commands::call,
            commands::subscribe
        ])
        .setup(move |app| {
            window::open(app.handle())?;
            controller.listen(control, app.handle().clone());
            Ok(())
        })
        .run(tauri::generate_context!());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("treeline-ui: the window cannot be opened: {error}");
            ExitCode::from(2)
        }
    }
}
