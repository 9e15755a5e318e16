//! Declares the commands that the page may be allowed to use.

fn main() {
    let commands = tauri_build::AppManifest::new().commands(&["call", "subscribe"]);
    let attributes = tauri_build::Attributes::new().app_manifest(commands);
    tauri_build::try_build(attributes).expect("the window's configuration is valid");
}
