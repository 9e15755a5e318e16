//! What the operations of a team's group cost: bytes and time by the number of devices, in both suites.
//! One process, the real engine over the real sealed store; each time ends when its transaction is on disk.

use anyhow::Result;
use clap::Args;
use endpoint_secure::measure::{Cost, Team};
use endpoint_secure_api::Suite;

use crate::report::{Report, Row};

/// How large.
#[derive(Args)]
pub struct Options {
    /// Devices in the team, in ascending order.
    #[arg(
        long,
        default_value = "2,10,100,1000",
        value_delimiter = ',',
        value_name = "N,…",
        value_parser = clap::value_parser!(u32).range(2..=4000)
    )]
    devices: Vec<u32>,
}

/// Bytes of the credential in those measurements: a name. Ours says more, and vouches for it.
const BARE_CREDENTIAL: f64 = 31.0;
/// What a bare group's objects were measured to be before there was a line of this program: the
/// operation, devices, and bytes in the classic and in the post-quantum suite.
const EXPECTED: &[(&str, Option<u32>, [f64; 2])] = &[
    ("key package", None, [304.0, 2674.0]),
    ("add", None, [483.0, 2853.0]),
    ("welcome, tree apart", None, [344.0, 1433.0]),
    ("remove", Some(100), [1_500.0, 23_000.0]),
    ("write a message of 200 B", None, [346.0, 346.0]),
];

/// Measures.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    for (at, (suite, name)) in [(Suite::Classic, "0x0001"), (Suite::PostQuantum, "0x004F")]
        .into_iter()
        .enumerate()
    {
        let directory = tempfile::tempdir()?;
        let mut team = Team::found(directory.path(), suite)?;
        let mut sizes = options.devices.clone();
        sizes.sort_unstable();
        for devices in sizes {
            team.grow(devices)?;
            let runs: Vec<_> = (0..report.runs())
                .map(|_| team.measure())
                .collect::<Result<_, _>>()?;
            for operation in 0..runs[0].len() {
                let rows = runs.iter().map(|costs| {
                    let cost = &costs[operation];
                    let longer = team.credential() as f64 - BARE_CREDENTIAL;
                    let expected = expected(cost.operation, devices).map(|sizes| sizes[at]);
                    let case = format!("{name}, {devices} devices: {}", cost.operation);
                    row(case, cost, longer, expected)
                });
                report.add(&rows.collect::<Vec<_>>())?;
            }
        }
    }
    Ok(())
}

fn expected(operation: &str, devices: u32) -> Option<[f64; 2]> {
    let fits = |of: &str, only: Option<u32>| of == operation && only.is_none_or(|n| n == devices);
    let found = EXPECTED.iter().find(|(of, only, _)| fits(of, *only));
    found.map(|(_, _, sizes)| *sizes)
}

fn row(case: String, cost: &Cost, longer: f64, expected: Option<f64>) -> Row {
    // What reads sends nothing, and not everything was measured before.
    let bytes = cost.bytes.map_or(f64::NAN, |bytes| bytes as f64);
    let bare = bytes - longer * cost.credentials as f64;
    Row::new(case)
        .with(
            "ms",
            cost.time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3),
        )
        .with("bytes", bytes)
        .with("with a bare credential", bare)
        .with("/ expected", bare / expected.unwrap_or(f64::NAN))
}
