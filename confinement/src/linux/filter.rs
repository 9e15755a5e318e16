//! From the tables of `calls` to seccomp filters, on every thread of the process.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::calls::{self, Call, Otherwise, Table, When};
use crate::Role;
use crate::isolation::Missing;

pub(super) fn install(role: Role, missing: &mut Missing) {
    let programs = programs(&calls::table(role)).map_err(|error| error.to_string());
    let installed = programs.and_then(|programs| {
        let mut programs = programs.iter();
        programs.try_for_each(|one| apply_filter_all_threads(one).map_err(|error| told(&error)))
    });
    missing.step("no seccomp", installed);
}

/// What the system says, without the way it came.
fn told(error: &seccompiler::Error) -> String {
    match error {
        seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// One filter that lists what is allowed, and one for each error that a refused call gets instead of
/// the end of the process. The strictest answer of all filters counts.
fn programs(table: &Table) -> Result<Vec<BpfProgram>, BackendError> {
    let architecture: TargetArch = std::env::consts::ARCH.try_into()?;
    let otherwise = match table.otherwise {
        Otherwise::Kill => SeccompAction::KillProcess,
        Otherwise::Refuse(error) => SeccompAction::Errno(error as u32),
    };
    let refused = table.refused.iter().map(|(error, calls)| {
        let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(*error as u32));
        SeccompFilter::new(rules(calls.iter())?, allow, refuse, architecture)?.try_into()
    });
    let listed = table.allowed.iter().flat_map(|group| group.calls);
    let also = table.refused.iter().flat_map(|(_, calls)| *calls);
    let allowed = rules(listed.chain(also))?;
    let allowed = SeccompFilter::new(allowed, otherwise, SeccompAction::Allow, architecture)?;
    refused.chain([allowed.try_into()]).collect()
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// A call that is listed several times is meant when any of its rows fits; a row without conditions
/// fits always.
fn rules<'a>(calls: impl Iterator<Item = &'a Call>) -> Result<Rules, BackendError> {
    let mut rules: BTreeMap<i64, Option<Vec<SeccompRule>>> = BTreeMap::new();
    for call in calls {
        let row = rules.entry(call.number).or_insert_with(|| Some(Vec::new()));
        if call.when.is_empty() {
            *row = None;
        } else if let Some(row) = row {
            let conditions: Result<_, _> = call.when.iter().map(condition).collect();
            row.push(SeccompRule::new(conditions?)?);
        }
    }
    let always = |row: Option<_>| row.unwrap_or_default();
    Ok(rules
        .into_iter()
        .map(|(call, row)| (call, always(row)))
        .collect())
}

fn condition(when: &When) -> Result<SeccompCondition, BackendError> {
    let (argument, operator, value) = match *when {
        When::Is(argument, value) => (argument, SeccompCmpOp::Eq, value),
        When::IsNot(argument, value) => (argument, SeccompCmpOp::Ne, value),
        When::Bits(argument, mask, value) => (argument, SeccompCmpOp::MaskedEq(mask), value),
        When::Own(argument) => {
            let own = u64::from(std::process::id());
            (argument, SeccompCmpOp::Eq, own)
        }
    };
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_compiles_and_fits() {
        for role in Role::ALL {
            let programs = programs(&calls::table(role)).unwrap();
            assert!(!programs.is_empty() && programs.iter().all(|program| program.len() < 4096));
        }
    }
}
