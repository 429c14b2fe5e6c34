//! Changes by the page: what a ban's lifting would mean, and what the forms ask for.

use anyhow::Context;
use axum::extract::Form;
use axum::extract::rejection::FormRejection;
use axum::http::StatusCode;
use maud::Markup;
use serde::Deserialize;

use super::guard::is_same;
use super::{AddressForm, Failure, MOST, Queried, Site, address, page, queried, wrong};
use crate::control::client::{self, UNCLEAR};
use crate::control::{BanFilter, BanLength, ChangePage, ChangeReport, ChangeRequest, Command, Target};
use crate::model::Offender;

/// What a form asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FormAction {
    Ban,
    Lift,
    LiftInside,
    Exempt,
    Remove,
    Undo,
}

/// A form of the page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeForm {
    /// What shows that it is one of ours.
    form: String,
    action: FormAction,
    #[serde(default)]
    address: String,
    /// How long; as the command line has it, without a limit if empty.
    #[serde(default)]
    length: String,
    /// The reason or the comment.
    #[serde(default)]
    words: String,
}

impl ChangeForm {
    fn command(self, site: &Site) -> Result<Command, Failure> {
        let length = match self.length.trim() {
            "" => None,
            text => Some(
                text.parse::<BanLength>().map_err(|what| wrong(format!("`{text}` is not a time; {what}")))?,
            ),
        };
        if self.action == FormAction::Undo {
            return Ok(Command::Undo { force: false });
        }
        let address: Offender = self.address.trim().parse().map_err(wrong)?;
        let change = match self.action {
            FormAction::Ban => ChangeRequest::Ban { address, length, reason: self.words },
            FormAction::Exempt => ChangeRequest::Allow { address, length, comment: self.words },
            FormAction::Remove => ChangeRequest::Disallow { address },
            FormAction::LiftInside => ChangeRequest::Unban(Target::Inside(address)),
            FormAction::Lift | FormAction::Undo => ChangeRequest::Unban(Target::One(address)),
        };
        Ok(Command::Change(ChangePage { operator: site.operator, ..change.into() }))
    }
}

/// Asks whether to lift the bans of an address, and says how many there are.
pub(super) async fn lift(site: &Site, query: Queried<AddressForm>) -> Result<(String, Markup), Failure> {
    let who = queried(query)?;
    let filter = BanFilter { inside: Some(who), limit: Some(MOST), ..BanFilter::default() };
    let (bans, total) = site.bans(filter).await?;
    Ok((format!("Lift bans on {who}?"), address::lift(site, who, &bans, total)))
}

/// Does what a form asks for, and says what was changed.
pub(super) async fn change(
    site: &Site,
    form: Result<Form<ChangeForm>, FormRejection>,
) -> Result<(String, Markup), Failure> {
    let Form(form) = form.map_err(wrong)?;
    if !is_same(&form.form, &site.secrets.form) {
        return Err(Failure(
            StatusCode::FORBIDDEN,
            "this form is of an earlier start; reload the page".to_owned(),
        ));
    }
    let address = form.address.trim().to_owned();
    let answer = client::ask(&site.socket, &form.command(site)?).await?;
    if let Some(error) = answer.refusal() {
        return Err(Failure(StatusCode::CONFLICT, error));
    }
    let report: ChangeReport = serde_json::from_str(&answer.body).context(UNCLEAR)?;
    let title = if report.changed == 0 {
        "Nothing has changed".to_owned()
    } else {
        format!("Done: {}", report.summary())
    };
    Ok((title, page::done(site, &address, &report)))
}
