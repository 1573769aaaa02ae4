//! `testbed role help`: the transfer programs by name.

use crate::status::Status;

pub(crate) fn roles() -> anyhow::Result<Status> {
    let width = nodes::ROLES.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, purpose) in nodes::ROLES {
        report::say(&format!("{name:width$}  {purpose}\n"));
    }
    report::say("\n`testbed role NAME --help` says how to use one.\n");
    Ok(Status::OK)
}
