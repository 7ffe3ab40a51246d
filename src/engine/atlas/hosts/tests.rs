use super::*;

fn kind(name: &str) -> HostKind {
    Atlas::built_in().host(&Host::parse(name).unwrap())
}

fn service(name: &str) -> Endpoint {
    match kind(name) {
        HostKind::Service(endpoint) => endpoint,
        other => panic!("{name}: {other:?}"),
    }
}

fn first_service(endpoint: &Endpoint) -> &'static str {
    &Atlas::built_in().services[usize::from(endpoint.entry.services[0])].name
}

#[test]
fn every_form_of_a_service_host_names_its_service_scope_and_region() {
    let rows = [
        // host, service, scope service, scope region, another region refused
        ("kms.us-east-1.amazonaws.com", "kms", "kms", "us-east-1", "eu-west-1"),
        ("kms-fips.us-east-1.amazonaws.com", "kms", "kms", "us-east-1", "eu-west-1"),
        ("kms.us-east-1.api.aws", "kms", "kms", "us-east-1", "eu-west-1"),
        ("kms.cn-north-1.amazonaws.com.cn", "kms", "kms", "cn-north-1", "us-east-1"),
        ("kms.us-gov-west-1.amazonaws.com", "kms", "kms", "us-gov-west-1", "us-west-1"),
        ("kms.us-iso-east-1.c2s.ic.gov", "kms", "kms", "us-iso-east-1", "us-east-1"),
        ("iam.amazonaws.com", "iam", "iam", "us-east-1", "eu-west-1"),
        ("iam.us-gov.amazonaws.com", "iam", "iam", "us-gov-west-1", "us-east-1"),
        ("iam.cn-north-1.amazonaws.com.cn", "iam", "iam", "cn-north-1", "us-east-1"),
        ("sts.amazonaws.com", "sts", "sts", "us-east-1", "eu-west-1"),
        ("sts.eu-west-1.amazonaws.com", "sts", "sts", "eu-west-1", "us-east-1"),
        ("route53.amazonaws.com.cn", "route53", "route53", "cn-northwest-1", "us-east-1"),
        ("organizations.us-east-1.amazonaws.com", "organizations", "organizations", "us-east-1", "us-west-2"),
        ("api.sagemaker.us-west-2.amazonaws.com", "sagemaker", "sagemaker", "us-west-2", "us-east-1"),
        (
            "runtime.sagemaker.us-west-2.amazonaws.com",
            "sagemaker-runtime",
            "sagemaker",
            "us-west-2",
            "us-east-1",
        ),
        ("streams.dynamodb.us-west-2.amazonaws.com", "dynamodbstreams", "dynamodb", "us-west-2", "us-east-1"),
        ("bedrock-runtime.us-west-2.amazonaws.com", "bedrock-runtime", "bedrock", "us-west-2", "us-east-1"),
        ("email.us-west-2.amazonaws.com", "ses", "ses", "us-west-2", "us-east-1"),
        ("sync-states.us-west-2.amazonaws.com", "stepfunctions", "states", "us-west-2", "us-east-1"),
        ("s3.eu-west-1.amazonaws.com", "s3", "s3", "eu-west-1", "us-east-1"),
        ("s3-eu-west-1.amazonaws.com", "s3", "s3", "eu-west-1", "us-east-1"),
        ("s3.dualstack.eu-west-1.amazonaws.com", "s3", "s3", "eu-west-1", "us-east-1"),
        ("s3.amazonaws.com", "s3", "s3", "eu-west-1", "cn-north-1"),
        ("b.ucket.s3-accelerate.amazonaws.com", "s3", "s3", "eu-west-1", "cn-north-1"),
        ("s3express-control.us-west-2.amazonaws.com", "s3", "s3express", "us-west-2", "us-east-1"),
        ("123456789012.s3-control.us-west-2.amazonaws.com", "s3control", "s3", "us-west-2", "us-east-1"),
        ("us-west-2.queue.amazonaws.com", "sqs", "sqs", "us-west-2", "us-east-1"),
        ("vpce-0a1b-xyz.sqs.us-west-2.vpce.amazonaws.com", "sqs", "sqs", "us-west-2", "us-east-1"),
        ("vpce-0a1b-xyz-us-west-2a.kms.us-west-2.vpce.amazonaws.com", "kms", "kms", "us-west-2", "us-east-1"),
        ("us-east-1.signin.aws.amazon.com", "signin", "signin", "us-east-1", "us-west-2"),
    ];
    for (host, id, scope, region, other) in rows {
        let endpoint = service(host);
        assert_eq!(first_service(&endpoint), id, "{host}");
        assert!(endpoint.allows_scope(scope, region), "{host} {scope} {region}");
        assert!(!endpoint.allows_scope(scope, other), "{host} {other}");
        assert!(!endpoint.allows_scope("iot-nothing", region), "{host}");
    }
}

#[test]
fn what_stands_before_the_service_is_read_where_a_row_allows_it() {
    assert_eq!(service("my.bucket-1.s3.eu-west-1.amazonaws.com").bucket(), Some("my.bucket-1"));
    assert_eq!(service("us-east-1.s3.eu-west-1.amazonaws.com").bucket(), Some("us-east-1"));
    assert_eq!(service("fips.s3.us-east-1.amazonaws.com").bucket(), Some("fips"));
    assert_eq!(service("dualstack.s3.us-east-1.amazonaws.com").bucket(), Some("dualstack"));
    assert_eq!(service("a-fips.s3.amazonaws.com").bucket(), Some("a-fips"));
    assert_eq!(service("s3.us-east-1.s3.amazonaws.com").bucket(), Some("s3.us-east-1"));
    assert_eq!(service("bkt.s3-eu-west-1.amazonaws.com").bucket(), Some("bkt"));
    assert_eq!(
        service("b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com").bucket(),
        Some("b--use1-az4--x-s3")
    );
    assert_eq!(service("bkt.bucket.vpce-1a-2b.s3.us-east-1.vpce.amazonaws.com").bucket(), Some("bkt"));
    assert_eq!(service("bucket.vpce-1a-2b.s3.us-east-1.vpce.amazonaws.com").bucket(), None);
    let account = AccountId::parse("123456789012");
    assert_eq!(service("123456789012.ddb.us-east-1.amazonaws.com").account(), account);
    assert_eq!(service("123456789012.data-kinesis.us-east-1.amazonaws.com").account(), account);
    assert_eq!(service("ap-123456789012.s3-accesspoint.us-east-1.amazonaws.com").account(), account);
    assert_eq!(
        service("ap-123456789012.accesspoint.vpce-1a-2b.s3.us-east-1.vpce.amazonaws.com").account(),
        account
    );
    for host in [
        "x.kms.us-east-1.amazonaws.com",
        "notdigits.ddb.us-east-1.amazonaws.com",
        "1.2.3.data-kinesis.us-east-1.amazonaws.com",
        "ap.s3-accesspoint.us-east-1.amazonaws.com",
        "s3-accesspoint.us-east-1.amazonaws.com",
        "bucket.s3express-use1-az4.us-east-1.amazonaws.com",
        "ab.s3.us-east-1.amazonaws.com",
        "my_bucket.s3.amazonaws.com",
        "x.vpce-1a-2b.kms.us-east-1.vpce.amazonaws.com",
        "bkt.vpce-1a-2b.s3.us-east-1.vpce.amazonaws.com",
    ] {
        assert!(matches!(kind(host), HostKind::UnknownAws), "{host}: {:?}", kind(host));
    }
}

#[test]
fn rented_names_are_not_services() {
    for host in [
        "ec2-203-0-113-9.compute-1.amazonaws.com",
        "ec2-203-0-113-9.eu-west-1.compute.amazonaws.com",
        "evil-123456.us-east-1.elb.amazonaws.com",
        "evil-123456.elb.us-east-1.amazonaws.com",
        "abc123.execute-api.us-east-1.amazonaws.com",
        "abc.lambda-url.us-east-1.on.aws",
        "d111111abcdef8.cloudfront.net",
        "site.s3-website-us-east-1.amazonaws.com",
        "site.s3-website.eu-central-1.amazonaws.com",
        "app.us-east-1.elasticbeanstalk.com",
        "db.abc.us-east-1.rds.amazonaws.com",
        "search-x-abc.us-east-1.es.amazonaws.com",
        "abc.us-east-1.awsapprunner.com",
        "main.d123.amplifyapp.com",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "vpce-1a-2b.vpce-svc-0c.us-east-1.vpce.amazonaws.com",
        "vpce-1a-2b.execute-api.us-east-1.vpce.amazonaws.com",
        "a1b2-ats.iot.us-east-1.amazonaws.com",
    ] {
        assert!(matches!(kind(host), HostKind::Rented(_)), "{host}: {:?}", kind(host));
    }
}

#[test]
fn look_alikes_and_unknown_names_are_no_service() {
    for host in [
        "s3.amazonaws.com.evil.test",
        "xamazonaws.com",
        "s3.amazonaws.co",
        "amazonaws.com.test",
        "docs.aws.amazon.com",
        "192.0.2.1",
        "cloudfront.net",
    ] {
        assert!(matches!(kind(host), HostKind::Outside), "{host}: {:?}", kind(host));
    }
    for host in [
        "amazonaws.com",
        "xs3.amazonaws.com",
        "kms.amazonaws.com",
        "kms.us-east-1.kms.amazonaws.com",
        "evils3.us-east-1.amazonaws.com",
        "kms.cn-north-1.amazonaws.com",
        "kms.us-east-1.amazonaws.com.cn",
        "nothing.us-east-1.amazonaws.com",
        "iam.amazonaws.com.cn",
        "execute-api.us-east-1.amazonaws.com",
        "us-east-1.amazonaws.com",
        "api.aws",
        "x.aws",
        "vpce.amazonaws.com",
        "R.queue.amazonaws.com",
        "s3express-zone.us-east-1.amazonaws.com",
        "kms.r.amazonaws.com",
    ] {
        assert!(matches!(kind(host), HostKind::UnknownAws), "{host}: {:?}", kind(host));
    }
}
