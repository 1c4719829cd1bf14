//! A `.script` file as the form that the upload host takes.

use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt};
use http::HeaderValue;
use reqwest::multipart::{Form, Part};

use crate::error::Error;
use crate::id::ScriptId;
use crate::request::Body;

pub(crate) fn encode(file: Bytes, name: &str, replace: Option<&ScriptId>) -> Result<Body, Error> {
    let unusable = || Error::invalid_input("the upload's form cannot be encoded");
    // Named and typed as CX as Code sends it.
    let file = Part::stream(file).file_name("script.json").mime_str("application/octet-stream");
    let mut form = Form::new().part("file", file.map_err(|_| unusable())?).text("scriptName", name.to_owned());
    if let Some(id) = replace {
        form = form.text("scriptIdToReplace", id.to_string());
    }
    let content_type = format!("multipart/form-data; boundary={}", form.boundary());
    // All parts are in memory, so the stream never waits.
    let parts: Option<Result<Vec<Bytes>, _>> = form.into_stream().try_collect().now_or_never();
    Ok(Body {
        content_type: HeaderValue::try_from(content_type).map_err(|_| unusable())?,
        bytes: parts.and_then(Result::ok).ok_or_else(unusable)?.concat().into(),
    })
}
