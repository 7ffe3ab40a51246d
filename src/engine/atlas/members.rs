//! Which operations take a member that names their resource.
//!
//! AWS looks past members that an operation does not have: a `TopicArn` beside the subscription to end, an `IndexName`
//! where an item is put. Read there, they would lead the policy to another resource than AWS. What is newer than these
//! lists is on an unknown resource.

/// SNS, `TopicArn`.
pub(super) const TOPIC: &[&str] = &[
    "AddPermission",
    "ConfirmSubscription",
    "DeleteTopic",
    "GetTopicAttributes",
    "ListSubscriptionsByTopic",
    "Publish",
    "PublishBatch",
    "RemovePermission",
    "SetTopicAttributes",
    "Subscribe",
];

/// SQS, `QueueUrl` or the path that stands for it.
pub(super) const QUEUE_URL: &[&str] = &[
    "AddPermission",
    "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
    "DeleteMessage",
    "DeleteMessageBatch",
    "DeleteQueue",
    "GetQueueAttributes",
    "ListDeadLetterSourceQueues",
    "ListQueueTags",
    "PurgeQueue",
    "ReceiveMessage",
    "RemovePermission",
    "SendMessage",
    "SendMessageBatch",
    "SetQueueAttributes",
    "TagQueue",
    "UntagQueue",
];

/// SQS, `QueueName`.
pub(super) const QUEUE_NAME: &[&str] = &["CreateQueue", "GetQueueUrl"];

/// SQS, `SourceArn` and `DestinationArn`.
pub(super) const QUEUE_ARN: &[&str] = &["ListMessageMoveTasks", "StartMessageMoveTask"];

/// STS, `RoleArn`.
pub(super) const ROLE: &[&str] = &["AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"];

/// DynamoDB, `IndexName`.
pub(super) const INDEX: &[&str] =
    &["DescribeContributorInsights", "Query", "Scan", "UpdateContributorInsights"];

/// Lambda, a qualifier of the function.
pub(super) const QUALIFIER: &[&str] = &[
    "AddPermission",
    "CreateFunctionUrlConfig",
    "DeleteFunction",
    "DeleteFunctionEventInvokeConfig",
    "DeleteFunctionUrlConfig",
    "DeleteProvisionedConcurrencyConfig",
    "GetFunction",
    "GetFunctionConfiguration",
    "GetFunctionEventInvokeConfig",
    "GetFunctionScalingConfig",
    "GetFunctionUrlConfig",
    "GetPolicy",
    "GetProvisionedConcurrencyConfig",
    "GetRuntimeManagementConfig",
    "Invoke",
    "InvokeWithResponseStream",
    "ListDurableExecutionsByFunction",
    "PutFunctionEventInvokeConfig",
    "PutFunctionScalingConfig",
    "PutProvisionedConcurrencyConfig",
    "PutRuntimeManagementConfig",
    "RemovePermission",
    "UpdateFunctionEventInvokeConfig",
    "UpdateFunctionUrlConfig",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::atlas::Atlas;

    #[test]
    fn every_listed_operation_is_one_of_its_service() {
        let atlas = Atlas::built_in();
        for (name, list) in [
            ("sns", TOPIC),
            ("sqs", QUEUE_URL),
            ("sqs", QUEUE_NAME),
            ("sqs", QUEUE_ARN),
            ("sts", ROLE),
            ("dynamodb", INDEX),
            ("lambda", QUALIFIER),
        ] {
            let service = atlas.services.iter().find(|service| &*service.name == name).unwrap();
            for operation in list {
                assert!(atlas.operations(service).named(operation).is_some(), "{name} {operation}");
            }
        }
    }
}
