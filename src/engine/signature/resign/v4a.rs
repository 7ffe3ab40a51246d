//! A head's signature in version 4A.
//!
//! Over the canonical request that the verifier builds, which AWS's suite of version 4A holds to AWS's own.

use super::super::canonical::{Parts, PathForm, Query, string_to_sign};
use super::super::chain::date_text;
use super::super::claim::Scope;
use super::super::fields::SignedFields;
use super::super::keys::Maker;
use super::super::payload::Payload;
use super::super::v4a::MAX_SIGNATURE;
use super::super::{Algorithm, Claim};
use super::{Added, Name, ResignError};

pub(super) fn sign(
    method: &str,
    target: &str,
    claim: &Claim<'_>,
    name: &Name<'_>,
    fields: &[(&str, &str)],
    word: &str,
) -> Result<Added, ResignError> {
    let unsignable = |_| ResignError::Unsignable;
    let date = date_text(name.at).ok_or(ResignError::Unsignable)?;
    let regions = claim.regions().collect::<Vec<_>>().join(",");
    let scope = Scope { date: &date[..8], region: &regions, service: claim.scope().service };
    let mut added =
        vec![("x-amz-date".to_owned(), date.clone()), ("x-amz-region-set".to_owned(), regions.clone())];
    if let Some(token) = &name.key.token {
        let token = std::str::from_utf8(token.expose()).map_err(|_| ResignError::Unsignable)?;
        let express = scope.service == "s3express";
        let field = if express { "x-amz-s3session-token" } else { "x-amz-security-token" };
        added.push((field.to_owned(), token.to_owned()));
    }
    if claim.payload != Payload::Body {
        added.push(("x-amz-content-sha256".to_owned(), word.to_owned()));
    }
    let all = || fields.iter().copied().chain(added.iter().map(|(field, value)| (&**field, &**value)));
    let mut names: Vec<_> = all().map(|(field, _)| field.to_ascii_lowercase()).collect();
    names.sort_unstable();
    names.dedup();
    let names = names.join(";");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let bytes = all().map(|(field, value)| (field.as_bytes(), value.as_bytes()));
    let parts = Parts {
        method,
        path: path.as_bytes(),
        query: Query::parse(query.as_bytes(), &[]).map_err(unsignable)?,
        fields: SignedFields::gather((&*names).into(), bytes, |_, _| Ok(())).map_err(unsignable)?,
    };
    // What S3's clients send raw they sign as escapes.
    let form = if scope.is_s3() { PathForm::Recoded } else { PathForm::EncodedAgain };
    let text = string_to_sign(Algorithm::Ecdsa, &date, &scope, &parts.text(form, word.as_bytes()));
    let maker = Maker::derive(Algorithm::Ecdsa, name.key, &scope).ok_or(ResignError::Unsignable)?;
    let signature = maker.sign(&text, MAX_SIGNATURE).ok_or(ResignError::Unsignable)?;
    let authorization = format!(
        "{} Credential={}/{}/{}/aws4_request, SignedHeaders={names}, Signature={signature}",
        Algorithm::Ecdsa.as_str(),
        name.key.id,
        scope.date,
        scope.service,
    );
    added.push(("authorization".to_owned(), authorization));
    Ok(added)
}
