// Signs uploads in chunks with AWS's own C library (Java: software.amazon.awssdk.crt), version 4A, and prints them as
// JSON for tests/sigv4: see README.md
import java.io.ByteArrayInputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import software.amazon.awssdk.crt.auth.credentials.Credentials;
import software.amazon.awssdk.crt.auth.signing.AwsSigner;
import software.amazon.awssdk.crt.auth.signing.AwsSigningConfig;
import software.amazon.awssdk.crt.http.HttpHeader;
import software.amazon.awssdk.crt.http.HttpRequest;
import software.amazon.awssdk.crt.http.HttpRequestBodyStream;

public class Chunks {
    // AWS's published example key.
    static final String ID = "AKIAIOSFODNN7EXAMPLE", SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    static final long AT = 1_767_323_045_000L;

    static AwsSigningConfig config(AwsSigningConfig.AwsSignatureType type, String body) {
        AwsSigningConfig config = new AwsSigningConfig();
        config.setAlgorithm(AwsSigningConfig.AwsSigningAlgorithm.SIGV4_ASYMMETRIC);
        config.setSignatureType(type);
        config.setRegion("us-east-1,eu-*");
        config.setService("s3");
        config.setTime(AT);
        config.setCredentials(new Credentials(ID.getBytes(), SECRET.getBytes(), null));
        config.setUseDoubleUriEncode(false);
        config.setShouldNormalizeUriPath(false);
        if (body != null) {
            config.setSignedBodyValue(body);
            config.setSignedBodyHeader(AwsSigningConfig.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA256);
        }
        return config;
    }

    static HttpRequestBodyStream stream(byte[] data) {
        ByteBuffer left = ByteBuffer.wrap(data);
        return new HttpRequestBodyStream() {
            public boolean sendRequestBody(ByteBuffer out) {
                while (left.hasRemaining() && out.hasRemaining()) out.put(left.get());
                return !left.hasRemaining();
            }
            public boolean resetPosition() { left.rewind(); return true; }
            public long getLength() { return data.length; }
        };
    }

    static String quoted(String text) {
        return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\r\n", "\\r\\n") + "\"";
    }

    static String upload(String name, List<String> chunks, String trailer) throws Exception {
        String word = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD" + (trailer == null ? "" : "-TRAILER");
        int decoded = chunks.stream().mapToInt(String::length).sum();
        List<HttpHeader> headers = new ArrayList<>(List.of(new HttpHeader("Host", "s3.us-east-1.amazonaws.com"),
                new HttpHeader("content-encoding", "aws-chunked"),
                new HttpHeader("x-amz-decoded-content-length", Integer.toString(decoded))));
        if (trailer != null) headers.add(new HttpHeader("x-amz-trailer", trailer.split(":")[0]));
        HttpRequest request = new HttpRequest("PUT", "/examplebucket/chunkObject.txt", headers.toArray(new HttpHeader[0]), null);
        var signed = AwsSigner.sign(request, config(AwsSigningConfig.AwsSignatureType.HTTP_REQUEST_VIA_HEADERS, word)).get();
        StringBuilder head = new StringBuilder("PUT /examplebucket/chunkObject.txt HTTP/1.1\r\n");
        for (HttpHeader header : signed.getSignedRequest().getHeaders()) head.append(header.getName() + ": " + header.getValue() + "\r\n");
        head.append("Transfer-Encoding: chunked\r\n\r\n");
        byte[] previous = signed.getSignature();
        StringBuilder body = new StringBuilder();
        List<String> all = new ArrayList<>(chunks);
        all.add("");
        for (String chunk : all) {
            byte[] data = chunk.getBytes(StandardCharsets.US_ASCII);
            previous = AwsSigner.sign(stream(data), previous, config(AwsSigningConfig.AwsSignatureType.HTTP_REQUEST_CHUNK, null)).get().getSignature();
            body.append(Integer.toHexString(data.length) + ";chunk-signature=" + new String(previous) + "\r\n");
            if (data.length > 0) body.append(chunk + "\r\n");
        }
        if (trailer != null) {
            String[] pair = trailer.split(":");
            previous = AwsSigner.sign(List.of(new HttpHeader(pair[0], pair[1])), previous,
                    config(AwsSigningConfig.AwsSignatureType.HTTP_REQUEST_TRAILING_HEADERS, null)).get().getSignature();
            body.append(trailer + "\r\nx-amz-trailer-signature:" + new String(previous) + "\r\n");
        }
        body.append("\r\n");
        return "  {\"name\": " + quoted(name) + ", \"head\": " + quoted(head.toString()) + ", \"body\": " + quoted(body.toString()) + "}";
    }

    public static void main(String[] given) throws Exception {
        String large = "a".repeat(300);
        System.out.println("[\n" + String.join(",\n",
                upload("two-chunks", List.of(large, "hello"), null),
                upload("empty", List.of(), null),
                upload("trailer", List.of("hello"), "x-amz-checksum-crc32:NhCmhg==")) + "\n]");
    }
}
