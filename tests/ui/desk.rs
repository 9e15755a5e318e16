//! A desk: a display of its own, a WebDriver, and the launcher with one profile.

use std::fs;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::panic::{panic_any, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use endpoint_secure_client::ProfileLock;
use fantoccini::elements::Element;
use fantoccini::error::{CmdError, ErrorStatus};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use xtask::process::{NO_KEYRING, binary};

/// How long anything may take on a machine with better things to do.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Light or dark, as the system says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    Light,
    Dark,
}

/// The driver said that its session is gone.
struct LostSession;

/// Runs a test, and once more from its beginning if the driver lost a session: on a busy machine of two
/// cores WebKit's does so once in some hundred windows. A window of ours that crashes loses both.
pub async fn tell<F>(story: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Err(error) = tokio::spawn(story()).await else {
        return;
    };
    match error.into_panic().downcast::<LostSession>() {
        Ok(_) => story().await,
        Err(panic) => resume_unwind(panic),
    }
}

fn is_lost(error: &CmdError) -> bool {
    matches!(error, CmdError::Standard(error) if error.error == ErrorStatus::InvalidSessionId)
}

/// One open window.
pub struct Window {
    pub client: Client,
    directory: PathBuf,
    driver: Child,
    display: Child,
}

impl Window {
    /// Opens the window of a profile on a display of this size.
    pub async fn open(directory: &Path, size: (u32, u32), theme: Theme) -> Self {
        let (display, name) = display(size);
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut command = at(&name, "WebKitWebDriver".as_ref());
        command
            .args(["--host=127.0.0.1", &format!("--port={port}")])
            .env("TAURI_WEBVIEW_AUTOMATION", "true");
        if theme == Theme::Dark {
            command.env("GTK_THEME", "Adwaita:dark");
        }
        let driver = command.spawn().expect("webkit2gtk-driver is installed");
        let client = connect(port, directory).await;
        Self {
            client,
            directory: directory.to_owned(),
            driver,
            display,
        }
    }

    /// The one element with this test id, as soon as it is there.
    pub async fn find(&self, id: &str) -> Element {
        let selector = format!("[data-testid=\"{id}\"]");
        let found = self
            .client
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(&selector))
            .await;
        match found {
            Ok(element) => element,
            Err(error) if is_lost(&error) => self.lost(),
            Err(error) => {
                self.picture("failed").await;
                panic!("no {id}: {error}; {}", self.source().await);
            }
        }
    }

    /// Presses a button, from the page: the driver's own click, and its Enter, wait for ever where the
    /// element goes away while it is pressed.
    pub async fn press(&self, id: &str) {
        self.find(id).await;
        let script = format!(
            "const button = document.querySelector('[data-testid=\"{id}\"]'); \
             setTimeout(() => button.click())"
        );
        self.run(&script).await;
    }

    /// Types into an element.
    pub async fn write(&self, id: &str, text: &str) {
        let element = self.find(id).await;
        self.kept(element.send_keys(text).await);
    }

    /// Pastes into an element: the driver types long texts for minutes.
    pub async fn paste(&self, id: &str, text: &str) {
        self.find(id).await;
        let text = serde_json::to_string(text).unwrap();
        let script = format!(
            "document.querySelector('[data-testid=\"{id}\"]').focus(); \
             return document.execCommand('insertText', false, {text})"
        );
        assert_eq!(self.run(&script).await, Value::Bool(true));
    }

    /// Unlocks with the keyboard alone: the field has the focus already.
    pub async fn unlock(&self, passphrase: &str) {
        self.write("passphrase", &format!("{passphrase}\u{e007}"))
            .await;
        self.find("composer").await;
    }

    /// Writes a message, and sends it with Enter.
    pub async fn say(&self, text: &str) {
        self.write("composer", &format!("{text}\u{e007}")).await;
    }

    /// The texts of the messages that are shown.
    pub async fn texts(&self) -> Vec<String> {
        let script = "return [...document.querySelectorAll('[data-testid=message-text]')].map(e => e.textContent)";
        let value = self.run(script).await;
        serde_json::from_value(value).unwrap()
    }

    /// Waits until a script gives `true`.
    pub async fn until(&self, what: &str, script: &str) {
        let end = Instant::now() + PATIENCE;
        while self.run(script).await != Value::Bool(true) {
            if Instant::now() > end {
                self.picture("failed").await;
                panic!("{what}: never; {}", self.source().await);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the last message that is shown has this text.
    pub async fn reads(&self, text: &str) {
        let wanted = serde_json::to_string(text).unwrap();
        let script = format!(
            "return [...document.querySelectorAll('[data-testid=message-text]')].at(-1)?.textContent === {wanted}"
        );
        self.until(text, &script).await;
    }

    /// Runs a script in the page.
    pub async fn run(&self, script: &str) -> Value {
        self.kept(self.client.execute(script, vec![]).await)
    }

    /// What a command gave. A session that was lost ends this telling of the test (`tell`).
    fn kept<T>(&self, result: Result<T, CmdError>) -> T {
        match result {
            Ok(value) => value,
            Err(error) if is_lost(&error) => self.lost(),
            Err(error) => panic!("{error}; the window's log: {}", self.log()),
        }
    }

    fn lost(&self) -> ! {
        println!(
            "the driver lost its session; the window's log: {}",
            self.log()
        );
        panic_any(LostSession)
    }

    /// Takes a picture of the page, which must paint meanwhile: the driver waits for the next frame,
    /// and a page on which nothing moves paints none.
    pub async fn picture(&self, name: &str) {
        let paint = "setTimeout(function paint(n = 1) { \
                         document.body.style.opacity = n % 2 ? '0.999' : ''; \
                         if (n < 100) setTimeout(paint, 20, n + 1); \
                     })";
        self.run(paint).await;
        let folder = binary("treeline").unwrap().with_file_name("../screenshots");
        fs::create_dir_all(&folder).unwrap();
        let picture = self.kept(self.client.screenshot().await);
        fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }

    /// What the window's processes have said, for a test that failed.
    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("window.log")).unwrap_or_default()
    }

    /// What the page says, for a test that failed.
    async fn source(&self) -> String {
        let text = self.run("return document.body.innerText").await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Closes the window, and waits until its processes are gone.
    pub async fn close(mut self) {
        self.kept(self.client.clone().close().await);
        let end = Instant::now() + PATIENCE;
        while ProfileLock::take(&self.directory).is_err() {
            assert!(
                Instant::now() < end,
                "the launcher goes on without its window"
            );
            tokio::time::sleep(LOOK).await;
        }
        self.end();
    }

    fn end(&mut self) {
        for child in [&mut self.driver, &mut self.display] {
            // One that has ended by itself is as good.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.end();
    }
}

/// A program that draws on a display, and keeps nothing in the keyring of whoever runs the test.
pub fn at(display: &str, program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("DISPLAY", display)
        .env("WEBKIT_DISABLE_DMABUF_RENDERER", "1")
        .env_remove("WAYLAND_DISPLAY")
        .envs(NO_KEYRING)
        .stdin(Stdio::null());
    command
}

/// An X server without a network, whose number it chooses itself.
fn display(size: (u32, u32)) -> (Child, String) {
    display_with(size, &[])
}

/// The same, with more options.
pub fn display_with((width, height): (u32, u32), more: &[&str]) -> (Child, String) {
    let screen = format!("{width}x{height}x24");
    let mut child = Command::new("Xvfb")
        .args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            &screen,
            "-nolisten",
            "tcp",
            "-noreset",
        ])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("xvfb is installed");
    let mut number = String::new();
    let out = child.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut number).unwrap();
    (child, format!(":{}", number.trim()))
}

async fn connect(port: u16, directory: &Path) -> Client {
    let launcher = binary("treeline").unwrap();
    let arguments = ["--automation", "--directory", directory.to_str().unwrap()];
    let options = json!({ "binary": launcher, "args": arguments });
    let capabilities = json!({ "webkitgtk:browserOptions": options });
    let Value::Object(capabilities) = capabilities else {
        unreachable!("it is an object")
    };
    let end = Instant::now() + PATIENCE;
    loop {
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities.clone());
        match builder.connect(&format!("http://127.0.0.1:{port}")).await {
            Ok(client) => return client,
            // The driver may not listen yet.
            Err(error) => assert!(Instant::now() < end, "no session: {error}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}
