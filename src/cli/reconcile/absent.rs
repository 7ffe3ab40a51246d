//! Why a call that went out through us may be missing from CloudTrail: it is late, or CloudTrail was never to have it.
//!
//! Data events are off unless a trail asks for them, and no published model says which operations they are. So those of the
//! services that workloads call are listed by hand out of AWS's pages, held to the atlas's operations by a test, and S3's
//! are told by their resource. Levels (read or not) are the atlas's. Nothing here makes a call look better: these are hints.

use crate::engine::atlas::{AccessLevel, Atlas, ListedAction};
use crate::engine::facts::words;

words! {
    pub(super) enum Why {
        /// CloudTrail delivers within some 15 minutes, and the export ends before that.
        NotYet = "not_yet_delivered",
        /// A data event, and the export holds none of this service.
        DataEvent = "data_event",
        /// The export holds nothing of this region.
        Region = "region_not_in_export",
        /// It only reads, and the export holds no call that does.
        ReadEvent = "read_event",
        /// It was cut off, so it may never have arrived.
        Interrupted = "interrupted",
        /// The atlas does not know the operation, so what CloudTrail does with it is not known either.
        UnknownOperation = "unknown_operation",
        /// None of these: CloudTrail should have it.
        Unexplained = "unexplained",
    }
}

impl Why {
    pub(super) fn said(self) -> &'static str {
        match self {
            Self::NotYet => "within 15 minutes of the export's end: not yet delivered",
            Self::DataEvent => "data event, of which the export has none of that service",
            Self::Region => "the export has nothing of that region",
            Self::ReadEvent => "only reads, and the export has no such call",
            Self::Interrupted => "interrupted, may never have arrived",
            Self::UnknownOperation => "operation that the atlas does not know",
            Self::Unexplained => "CloudTrail should have it",
        }
    }
}

/// Operations that are data events, but for S3's.
///
/// Which resource types have any is CloudTrail's to say:
/// <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/logging-data-events-with-cloudtrail.html>. Which operations
/// these are, each service's own page on CloudTrail says. Both as of 2026-11-25. Those pages of Kinesis and Firehose name
/// none, of which those are here that carry a stream's data; `logs:PutLogEvents` stands in no list of events at all. What
/// one would expect and is a management event: a model's `InvokeModel` and `Converse`, reading logs, KMS, secrets.
const DATA_EVENTS: &[(&str, &[&str])] = &[
    ("appconfig", &["GetLatestConfiguration", "StartConfigurationSession"]),
    (
        "bedrock",
        &[
            "ApplyGuardrail",
            "CreateInvocation",
            "CreateSession",
            "DeleteAgentMemory",
            "DeleteSession",
            "EndSession",
            "GenerateQuery",
            "GetAgentMemory",
            "GetAsyncInvoke",
            "GetExecutionFlowSnapshot",
            "GetFlowExecution",
            "GetInvocationStep",
            "GetSession",
            "InvokeAgent",
            "InvokeFlow",
            "InvokeInlineAgent",
            "InvokeModelWithBidirectionalStream",
            "ListFlowExecutionEvents",
            "ListFlowExecutions",
            "ListInvocationSteps",
            "ListInvocations",
            "ListSessions",
            "OptimizePrompt",
            "PutInvocationStep",
            "Rerank",
            "Retrieve",
            "RetrieveAndGenerate",
            "RetrieveAndGenerateStream",
            "StartAsyncInvoke",
            "StartFlowExecution",
            "StopFlowExecution",
            "UpdateSession",
        ],
    ),
    (
        "cognito-identity",
        &[
            "GetCredentialsForIdentity",
            "GetId",
            "GetOpenIdToken",
            "GetOpenIdTokenForDeveloperIdentity",
            "UnlinkIdentity",
        ],
    ),
    (
        "dynamodb",
        &[
            "BatchExecuteStatement",
            "BatchGetItem",
            "BatchWriteItem",
            "DeleteItem",
            "ExecuteStatement",
            "ExecuteTransaction",
            "GetItem",
            "GetRecords",
            "GetShardIterator",
            "PutItem",
            "Query",
            "Scan",
            "TransactGetItems",
            "TransactWriteItems",
            "UpdateItem",
        ],
    ),
    ("events", &["PutEvents", "PutPartnerEvents"]),
    ("firehose", &["PutRecord", "PutRecordBatch"]),
    ("kinesis", &["GetRecords", "GetShardIterator", "PutRecord", "PutRecords", "SubscribeToShard"]),
    ("lambda", &["Invoke", "InvokeAsync", "InvokeWithResponseStream"]),
    ("logs", &["PutLogEvents"]),
    (
        "monitoring",
        &["GetMetricData", "GetMetricStatistics", "GetMetricWidgetImage", "ListMetrics", "PutMetricData"],
    ),
    ("sagemaker", &["InvokeEndpoint", "InvokeEndpointAsync", "InvokeEndpointWithResponseStream"]),
    ("ses", &["SendBulkEmail", "SendBulkTemplatedEmail", "SendEmail", "SendRawEmail", "SendTemplatedEmail"]),
    ("sns", &["Publish", "PublishBatch"]),
    (
        "sqs",
        &[
            "ChangeMessageVisibility",
            "ChangeMessageVisibilityBatch",
            "DeleteMessage",
            "DeleteMessageBatch",
            "GetQueueAttributes",
            "GetQueueUrl",
            "ListDeadLetterSourceQueues",
            "ListQueueTags",
            "ListQueues",
            "ReceiveMessage",
            "SendMessage",
            "SendMessageBatch",
        ],
    ),
    ("states", &["GetActivityTask", "StartSyncExecution"]),
    (
        "swf",
        &[
            "CountClosedWorkflowExecutions",
            "CountOpenWorkflowExecutions",
            "CountPendingActivityTasks",
            "DescribeWorkflowExecution",
            "GetWorkflowExecutionHistory",
            "ListClosedWorkflowExecutions",
            "ListOpenWorkflowExecutions",
            "PollForActivityTask",
            "PollForDecisionTask",
            "RecordActivityTaskHeartbeat",
            "RequestCancelWorkflowExecution",
            "RespondActivityTaskCanceled",
            "RespondActivityTaskCompleted",
            "RespondActivityTaskFailed",
            "RespondDecisionTaskCompleted",
            "SignalWorkflowExecution",
            "StartWorkflowExecution",
            "TerminateWorkflowExecution",
        ],
    ),
    (
        "xray",
        &[
            "BatchGetTraces",
            "GetSamplingTargets",
            "GetServiceGraph",
            "GetTimeSeriesServiceStatistics",
            "GetTraceGraph",
            "GetTraceSummaries",
            "PutTelemetryRecords",
            "PutTraceSegments",
        ],
    ),
];

/// S3 calls on a bucket that are data events, as S3's page on CloudTrail has them; those on an object all are.
/// `ListMultipartUploads` is in no list of general purpose buckets, and so in no trail that asks for no data events.
const OF_BUCKETS: &[&str] = &[
    "DeleteObjects",
    "HeadBucket",
    "ListMultipartUploads",
    "ListObjectVersions",
    "ListObjects",
    "ListObjectsV2",
];

pub(super) fn is_data_event(service: &str, name: &str, resources: &[String]) -> bool {
    if service == "s3" {
        return OF_BUCKETS.contains(&name) || resources.iter().any(|arn| is_object(arn));
    }
    DATA_EVENTS.iter().any(|(of, names)| *of == service && names.contains(&name))
}

fn is_object(arn: &str) -> bool {
    arn.splitn(6, ':').nth(5).is_some_and(|rest| rest.contains('/'))
}

/// All its IAM actions are of the levels read and list; `false` where one is not known.
pub(super) fn only_reads(actions: &[String]) -> bool {
    let level = |action: &String| {
        let (prefix, name) = action.split_once(':')?;
        ListedAction::find(Atlas::built_in().actions(prefix)?, name).map(|action| action.level)
    };
    let reads = |action| matches!(level(action), Some(AccessLevel::Read | AccessLevel::List));
    !actions.is_empty() && actions.iter().all(reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_operation_is_one_that_the_atlas_knows() {
        for (service, names) in DATA_EVENTS.iter().copied().chain([("s3", OF_BUCKETS)]) {
            // CloudTrail's name of CloudWatch is the one it is signed for.
            let prefix = if service == "monitoring" { "cloudwatch" } else { service };
            assert!(names.is_sorted(), "{service}");
            for name in names {
                let known = Atlas::built_in().actions_of_operation(prefix, name);
                assert!(!known.is_empty(), "{service}:{name}");
            }
        }
    }

    #[test]
    fn tells_data_events_from_calls_that_every_trail_has() {
        let arn = |text: &str| [text.to_owned()];
        assert!(is_data_event("s3", "GetObject", &arn("arn:aws:s3:::b/k")));
        assert!(is_data_event("s3", "ListObjectsV2", &arn("arn:aws:s3:::b")));
        assert!(!is_data_event("s3", "PutBucketPolicy", &arn("arn:aws:s3:::b")));
        assert!(is_data_event("lambda", "Invoke", &arn("arn:aws:lambda:us-east-1:1:function:f")));
        assert!(!is_data_event("lambda", "CreateFunction", &arn("arn:aws:lambda:us-east-1:1:function:f")));
        assert!(is_data_event("sqs", "GetQueueUrl", &[]) && !is_data_event("sqs", "PurgeQueue", &[]));
        assert!(is_data_event("s3", "HeadBucket", &arn("arn:aws:s3:::b")));
        assert!(is_data_event("states", "GetActivityTask", &[]));
        assert!(
            !is_data_event("states", "StartExecution", &[]) && !is_data_event("bedrock", "InvokeModel", &[])
        );
        // Reading logs is on record in every trail.
        assert!(!is_data_event("logs", "FilterLogEvents", &[]) && is_data_event("logs", "PutLogEvents", &[]));
    }

    #[test]
    fn reads_are_told_by_iams_levels() {
        let actions = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(
            only_reads(&actions(&["s3:GetObject"]))
                && only_reads(&actions(&["s3:ListBucket", "s3:GetObject"]))
        );
        assert!(!only_reads(&actions(&["s3:GetObject", "s3:PutObject"])));
        assert!(!only_reads(&actions(&["s3:?"])) && !only_reads(&[]));
    }
}
