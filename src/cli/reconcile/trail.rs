//! Reads what CloudTrail delivered: log files (`{"Records":[…]}`, gzipped or not), folders of them, the answer of
//! `aws cloudtrail lookup-events`, and records one a line.

use std::collections::HashSet;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::lines::{naming, open, read_at_most, seconds};

/// CloudTrail's own files are some MiB; an export that is longer is one to be split.
const MOST: u64 = 1 << 30;
const OURS: &str = "holds audit lines of exeat, not CloudTrail's: give it with --audit";

/// One call as CloudTrail tells it, as far as it is joined or shown.
#[derive(Debug)]
pub(super) struct Record {
    pub time: i64,
    pub time_text: String,
    /// `eventSource` without `.amazonaws.com`.
    pub service: String,
    pub name: String,
    pub region: String,
    pub account: Option<String>,
    pub key: Option<String>,
    /// ARN, issuer's ARN, user's and issuer's names.
    pub principals: Vec<String>,
    /// An AWS service made it, for itself or in somebody's name.
    pub by_service: bool,
    pub kind: String,
    pub data_event: bool,
    pub read_only: bool,
    pub request_id: Option<String>,
    /// S3's second id.
    pub extended_id: Option<String>,
    pub event_id: Option<String>,
    pub source_ip: Option<String>,
    pub user_agent: Option<String>,
    pub error_code: Option<String>,
    pub host: Option<String>,
    pub file: usize,
}

#[derive(Debug, Default)]
pub(super) struct Trail {
    pub files: Vec<PathBuf>,
    pub records: Vec<Record>,
    /// The same event again: two trails, or a file given twice.
    pub duplicates: u64,
    seen: HashSet<String>,
}

impl Trail {
    /// Reads all `paths`. One without a record is an error: an answer over nothing would say that nothing went round.
    pub fn read(paths: &[PathBuf]) -> io::Result<Self> {
        let mut trail = Self::default();
        for path in paths {
            let before = trail.records.len() as u64 + trail.duplicates;
            if path.is_dir() {
                trail.folder(path)?;
            } else {
                trail.file(path)?;
            }
            if trail.records.len() as u64 + trail.duplicates == before {
                return Err(wrong(path, "holds no CloudTrail record"));
            }
        }
        Ok(trail)
    }

    /// As the bucket has them: `AWSLogs/ACCOUNT/CloudTrail/REGION/YYYY/MM/DD/*.json.gz`.
    fn folder(&mut self, folder: &Path) -> io::Result<()> {
        let listed = std::fs::read_dir(folder).map_err(|error| naming(folder, &error))?;
        let mut paths =
            listed.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                self.folder(&path)?;
            } else if name.ends_with(".json") || name.ends_with(".json.gz") {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let file = self.files.len();
        self.files.push(path.to_owned());
        let bytes = open(path)
            .and_then(|mut from| read_at_most(&mut *from as &mut dyn BufRead, MOST))
            .map_err(|error| naming(path, &error))?;
        if bytes.trim_ascii().is_empty() {
            return Err(wrong(path, "is empty"));
        }
        for value in serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>() {
            let value = value.map_err(|error| wrong(path, &format!("is not whole JSON: {error}")))?;
            self.value(&value, file).map_err(|what| wrong(path, &what))?;
        }
        Ok(())
    }

    fn value(&mut self, value: &Value, file: usize) -> Result<(), String> {
        if let Some(records) = value["Records"].as_array() {
            return records.iter().try_for_each(|record| self.record(record, file));
        }
        if let Some(events) = value["Events"].as_array() {
            for event in events {
                let text =
                    event["CloudTrailEvent"].as_str().ok_or("has an event without `CloudTrailEvent`")?;
                let record = serde_json::from_str(text)
                    .map_err(|error| format!("has a `CloudTrailEvent` that is not JSON: {error}"))?;
                self.record(&record, file)?;
            }
            return Ok(());
        }
        if value["digestS3Bucket"].is_string() {
            // CloudTrail's digest files lie beside its logs and say nothing of calls.
            return Ok(());
        }
        if value["eventVersion"].is_string() {
            return self.record(value, file);
        }
        if value["exeat"].is_string() {
            return Err(OURS.to_owned());
        }
        Err("is JSON, and no CloudTrail export: it has neither `Records` nor `Events`".to_owned())
    }

    fn record(&mut self, value: &Value, file: usize) -> Result<(), String> {
        if value["additionalEventData"]["exeat"].is_object() {
            return Err(OURS.to_owned());
        }
        if let Some(id) = value["eventID"].as_str()
            && !self.seen.insert(id.to_owned())
        {
            self.duplicates += 1;
            return Ok(());
        }
        let record = Record::of(value, file).ok_or_else(|| {
            let shown = value["eventID"].as_str().unwrap_or("without an eventID");
            format!("has a record ({shown}) without `eventTime`, `eventSource` or `eventName`")
        })?;
        self.records.push(record);
        Ok(())
    }
}

impl Record {
    fn of(value: &Value, file: usize) -> Option<Self> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let time_text = text(&value["eventTime"])?;
        let source = text(&value["eventSource"])?;
        let identity = &value["userIdentity"];
        let issuer = &identity["sessionContext"]["sessionIssuer"];
        let names = [&identity["arn"], &issuer["arn"], &identity["userName"], &issuer["userName"]];
        let read_only = &value["readOnly"];
        Some(Self {
            time: seconds(&time_text)?,
            time_text,
            service: source.strip_suffix(".amazonaws.com").unwrap_or(&source).to_owned(),
            name: text(&value["eventName"])?,
            region: text(&value["awsRegion"]).unwrap_or_default(),
            account: text(&identity["accountId"]).or_else(|| text(&value["recipientAccountId"])),
            key: text(&identity["accessKeyId"]),
            principals: names.into_iter().filter_map(text).collect(),
            by_service: identity["invokedBy"].is_string() || identity["type"] == "AWSService",
            // Old records say nothing of their type.
            kind: text(&value["eventType"]).unwrap_or_else(|| "AwsApiCall".to_owned()),
            data_event: value["eventCategory"] == "Data",
            read_only: read_only == true || read_only == "true",
            request_id: text(&value["requestID"]),
            extended_id: text(&value["additionalEventData"]["x-amz-id-2"]),
            event_id: text(&value["eventID"]),
            source_ip: text(&value["sourceIPAddress"]),
            user_agent: text(&value["userAgent"]),
            error_code: text(&value["errorCode"]),
            host: text(&value["tlsDetails"]["clientProvidedHostHeader"]),
            file,
        })
    }

    /// `lambda:CreateFunction`, of the name with the API's version in it (`CreateFunction20150331v2`) too.
    pub fn operation(&self) -> String {
        operation(&self.service, &self.name)
    }
}

/// One spelling of an operation for both sides: CloudTrail writes some names otherwise than the API does.
pub(super) fn operation(service: &str, name: &str) -> String {
    let name = match (service, name) {
        ("s3", "ListObjectsV2") => "ListObjects",
        (_, name) => without_version(name),
    };
    format!("{service}:{name}")
}

/// Lambda and CloudFront put the date of their API at the end: eight digits, maybe `v` and one more.
fn without_version(name: &str) -> &str {
    let bare = match name.rsplit_once('v') {
        Some((before, after)) if after.len() == 1 && after.bytes().all(|b| b.is_ascii_digit()) => before,
        _ => name,
    };
    let digits = bare.bytes().rev().take_while(u8::is_ascii_digit).count();
    let dated = digits == 8 || bare.len() > 10 && is_dashed_date(&bare[bare.len().saturating_sub(10)..]);
    match (dated, digits) {
        (true, 8) => &bare[..bare.len() - 8],
        (true, _) => &bare[..bare.len() - 10],
        (false, _) => name,
    }
}

/// CloudFront's own form is `CreateDistribution2020_05_31`.
fn is_dashed_date(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = text.split('_').collect();
    matches!(parts.as_slice(), [y, m, d] if y.len() == 4 && m.len() == 2 && d.len() == 2 && [y, m, d].iter().all(|p| digits(p)))
}

fn wrong(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{}` {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_spell_an_operation_alike() {
        for (service, cloudtrail, ours) in [
            ("lambda", "CreateFunction20150331", "CreateFunction"),
            ("lambda", "UpdateFunctionCode20150331v2", "UpdateFunctionCode"),
            ("cloudfront", "CreateDistribution2020_05_31", "CreateDistribution"),
            ("s3", "ListObjects", "ListObjectsV2"),
            ("sqs", "SendMessage", "SendMessage"),
            ("x", "RenameV2", "RenameV2"),
            ("x", "Go2015v2", "Go2015v2"),
        ] {
            assert_eq!(operation(service, cloudtrail), operation(service, ours), "{cloudtrail}");
        }
        assert_ne!(operation("s3", "GetObject"), operation("s3", "PutObject"));
    }

    #[test]
    fn says_what_is_wrong_with_an_export() {
        let mut trail = Trail::default();
        let mut told = |text: &str| trail.value(&serde_json::from_str(text).unwrap(), 0).unwrap_err();
        assert!(told("[]").contains("neither `Records` nor `Events`"));
        assert!(told(r#"{"Records":[{"eventID":"e1"}]}"#).contains("(e1) without `eventTime`"));
        assert!(told(r#"{"Events":[{}]}"#).contains("without `CloudTrailEvent`"));
        assert!(told(r#"{"Events":[{"CloudTrailEvent":"{"}]}"#).contains("not JSON"));
        let ours = r#"{"eventVersion":"1.11","additionalEventData":{"exeat":{}}}"#;
        assert!(told(ours).contains("give it with --audit"));
    }

    #[test]
    fn takes_an_event_once_and_passes_digests_over() {
        let record = r#"{"eventVersion":"1.11","eventTime":"2026-11-25T12:00:00Z","eventSource":"sqs.amazonaws.com",
            "eventName":"SendMessage","eventID":"e1","userIdentity":{"type":"AWSService","invokedBy":"x"}}"#;
        let lookup = serde_json::json!({"Events": [{"CloudTrailEvent": record}]}).to_string();
        let mut trail = Trail::default();
        for text in [record, &format!(r#"{{"Records":[{record}]}}"#), &lookup, r#"{"digestS3Bucket":"b"}"#] {
            trail.value(&serde_json::from_str(text).unwrap(), 0).unwrap();
        }
        assert_eq!((trail.records.len(), trail.duplicates), (1, 2));
        assert!(trail.records[0].by_service);
        assert_eq!(trail.records[0].operation(), "sqs:SendMessage");
    }
}
