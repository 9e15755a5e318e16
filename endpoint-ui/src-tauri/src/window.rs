//! The one window: our own page and nothing else, ever.

use tauri::webview::NewWindowResponse;
use tauri::{AppHandle, WebviewUrl, WebviewWindowBuilder};

/// Opens it.
///
/// # Errors
/// What Tauri says, above all that there is no display.
pub fn open(app: &AppHandle) -> tauri::Result<()> {
    // A private session leaves no trace on disk; WebDriver does not work with one.
    let (width, height) = size(app);
    let driven = std::env::var_os("TAURI_WEBVIEW_AUTOMATION").is_some();
    let window = WebviewWindowBuilder::new(app, "main", WebviewUrl::App("index.html".into()))
        .title("Treeline")
        .inner_size(width, height)
        .min_inner_size(480.0, 400.0)
        .incognito(!driven)
        .on_navigation(|url| url.scheme() == "tauri")
        .on_new_window(|_, _| NewWindowResponse::Deny)
        .on_download(|_, _| false)
        .build()?;
    reload_when_the_page_dies(&window)
}

/// As large as is pleasant, and no larger than the screen.
fn size(app: &AppHandle) -> (f64, f64) {
    let monitor = app.primary_monitor().ok().flatten();
    let screen = monitor.map(|monitor| monitor.size().to_logical::<f64>(monitor.scale_factor()));
    screen.map_or((1280.0, 800.0), |screen| {
        (screen.width.min(1280.0), screen.height.min(800.0))
    })
}

/// Without this the window freezes on its last picture when its web process ends.
#[cfg(target_os = "linux")]
fn reload_when_the_page_dies(window: &tauri::WebviewWindow) -> tauri::Result<()> {
    use webkit2gtk::WebViewExt;
    window.with_webview(|view| {
        view.inner().connect_web_process_terminated(|view, reason| {
            // Standard error is the window's log.
            eprintln!("treeline-ui: the page's process ended ({reason:?}); loading it again");
            view.reload();
        });
    })
}

#[cfg(not(target_os = "linux"))]
fn reload_when_the_page_dies(_: &tauri::WebviewWindow) -> tauri::Result<()> {
    Ok(())
}
