//! What the operations of a team's group cost: bytes and time by the number of devices, in both suites.
//! One process, the real engine over the real sealed store; each time ends when its transaction is on disk.

use anyhow::Result;
use clap::Args;
use endpoint_secure::measure::Team;
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
                let rows: Vec<_> = runs
                    .iter()
                    .map(|costs| row(&costs[operation], (name, at), devices))
                    .collect();
                report.add(&rows)?;
            }
        }
    }
    Ok(())
}

fn row(cost: &endpoint_secure::measure::Cost, (suite, at): (&str, usize), devices: u32) -> Row {
    let case = format!("{suite}, {devices} devices: {}", cost.operation);
    let bytes = cost.bytes.unwrap_or_default() as f64;
    let bare = bytes - cost.credential as f64;
    let expected = EXPECTED.iter().find(|(operation, only, _)| {
        *operation == cost.operation && only.is_none_or(|only| only == devices)
    });
    Row::new(case)
        .with("ms", cost.time.as_secs_f64() * 1e3)
        .with("bytes", bytes)
        .with("without credential", bare)
        .with(
            "/ expected",
            expected.map_or(f64::NAN, |(_, _, sizes)| bare / sizes[at]),
        )
}
