import java.io.ByteArrayInputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.http.SdkHttpClient;
import software.amazon.awssdk.http.apache.ApacheHttpClient;
import software.amazon.awssdk.services.bedrockruntime.BedrockRuntimeClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbClient;
import software.amazon.awssdk.services.dynamodb.model.AttributeValue;
import software.amazon.awssdk.services.lambda.LambdaClient;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.model.CompletedPart;
import software.amazon.awssdk.services.s3.presigner.S3Presigner;
import software.amazon.awssdk.services.sqs.SqsClient;

/** What test_sdks.py wants of every SDK. An exception, and 1, where a call fails. */
public class Calls {
    static final String BUCKET = "trial-data";

    public static void main(String[] args) throws Exception {
        SdkHttpClient http = ApacheHttpClient.create();
        S3Client files = S3Client.builder().httpClient(http).build();
        files.putObject(r -> r.bucket(BUCKET).key("sdk/a b+c"), RequestBody.fromString("some bytes"));
        String got = files.getObjectAsBytes(r -> r.bucket(BUCKET).key("sdk/a b+c")).asUtf8String();
        if (!got.equals("some bytes")) throw new IllegalStateException("other bytes");
        String upload = files.createMultipartUpload(r -> r.bucket(BUCKET).key("sdk/parts")).uploadId();
        String etag = files.uploadPart(r -> r.bucket(BUCKET).key("sdk/parts").uploadId(upload).partNumber(1), RequestBody.fromString("one part")).eTag();
        files.completeMultipartUpload(r -> r.bucket(BUCKET).key("sdk/parts").uploadId(upload)
            .multipartUpload(m -> m.parts(CompletedPart.builder().eTag(etag).partNumber(1).build())));
        byte[] stream = "by stream".getBytes(StandardCharsets.UTF_8);
        files.putObject(r -> r.bucket(BUCKET).key("sdk/stream"), RequestBody.fromInputStream(new ByteArrayInputStream(stream), stream.length));
        try (S3Presigner presigner = S3Presigner.create()) {
            Duration hour = Duration.ofHours(1);
            use("PUT", presigner.presignPutObject(p -> p.signatureDuration(hour).putObjectRequest(r -> r.bucket(BUCKET).key("sdk/presigned"))).url());
            use("GET", presigner.presignGetObject(p -> p.signatureDuration(hour).getObjectRequest(r -> r.bucket(BUCKET).key("sdk/presigned"))).url());
        }
        DynamoDbClient tables = DynamoDbClient.builder().httpClient(http).build();
        Map<String, AttributeValue> key = Map.of("id", AttributeValue.fromS("sdk"));
        tables.putItem(r -> r.tableName("orders").item(key));
        tables.getItem(r -> r.tableName("orders").key(key));
        SqsClient queues = SqsClient.builder().httpClient(http).build();
        String queue = queues.getQueueUrl(r -> r.queueName("orders")).queueUrl();
        queues.sendMessage(r -> r.queueUrl(queue).messageBody("one"));
        LambdaClient.builder().httpClient(http).build().invoke(r -> r
            .functionName("arn:aws:lambda:us-east-1:123456789012:function:trial").payload(SdkBytes.fromUtf8String("{}")));
        BedrockRuntimeClient.builder().httpClient(http).build().invokeModel(r -> r
            .modelId("anthropic.claude-3-haiku-20240307-v1:0").contentType("application/json").body(SdkBytes.fromUtf8String("{}")));
        System.out.println("went");
    }

    static void use(String method, URL url) throws Exception {
        HttpURLConnection call = (HttpURLConnection) url.openConnection();
        call.setRequestMethod(method);
        if (method.equals("PUT")) {
            call.setDoOutput(true);
            call.getOutputStream().write("by url".getBytes(StandardCharsets.UTF_8));
        }
        if (call.getResponseCode() != 200) throw new IllegalStateException("presigned " + method + ": " + call.getResponseCode());
    }
}
