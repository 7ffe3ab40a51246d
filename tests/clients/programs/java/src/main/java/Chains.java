import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Scanner;
import software.amazon.awssdk.crt.CRT;
import software.amazon.awssdk.crt.auth.signing.AwsSigningUtils;

/**
 * Verifies uploads in chunks of version 4A with AWS's own C library: `Chains X Y`, the public key, and a request a line, its
 * name and its bytes in base64. The texts that are signed are written here, by AWS's documentation of them. Says of each how many
 * signatures hold, and that none holds over other data.
 */
public class Chains {
    static String x, y;
    static int held;

    public static void main(String[] args) throws Exception {
        new CRT(); // loads the library
        x = args[0];
        y = args[1];
        Scanner lines = new Scanner(System.in);
        while (lines.hasNext()) {
            String name = text(Base64.getDecoder().decode(lines.next()));
            String request = text(Base64.getDecoder().decode(lines.next()));
            held = 0;
            verify(request);
            System.out.println(name + " " + held);
        }
    }

    static void verify(String request) throws Exception {
        int blank = request.indexOf("\r\n\r\n");
        String[] lines = request.substring(0, blank).split("\r\n");
        Map<String, String> fields = new HashMap<>();
        for (String line : Arrays.asList(lines).subList(1, lines.length)) {
            String[] field = line.split(": ", 2);
            fields.put(field[0].toLowerCase(), field[1].trim());
        }
        String[] first = lines[0].split(" ");
        String authorization = fields.get("authorization"), names = between(authorization, "SignedHeaders=", ",");
        StringBuilder canonical = new StringBuilder(first[0] + "\n" + first[1] + "\n\n");
        for (String name : names.split(";")) canonical.append(name + ":" + fields.get(name) + "\n");
        canonical.append("\n" + names + "\n" + fields.get("x-amz-content-sha256"));
        String credential = between(authorization, "Credential=", ","), scope = credential.substring(credential.indexOf('/') + 1);
        String start = "\n" + fields.get("x-amz-date") + "\n" + scope + "\n";
        String previous = authorization.substring(authorization.indexOf("Signature=") + 10);
        holds("", start + sha256(canonical.toString()), previous);

        String rest = request.substring(blank + 4);
        if (fields.containsKey("transfer-encoding")) rest = unchunked(rest);
        for (int size = -1; size != 0;) {
            int line = rest.indexOf("\r\n");
            String[] parts = rest.substring(0, line).split(";chunk-signature=");
            size = Integer.parseInt(parts[0], 16);
            String data = rest.substring(line + 2, line + 2 + size);
            holds("-PAYLOAD", start + previous + "\n" + sha256("") + "\n" + sha256(data), parts[1]);
            previous = parts[1].replace("*", "");
            rest = rest.substring(line + 2 + size + (size == 0 ? 0 : 2));
        }
        List<String> trailers = Arrays.asList(rest.split("\r\n"));
        if (fields.containsKey("x-amz-trailer")) {
            String signature = trailers.get(1).substring("x-amz-trailer-signature:".length());
            holds("-TRAILER", start + previous + "\n" + sha256(trailers.get(0) + "\n"), signature);
        }
    }

    /** Over this text, and over no other. */
    static void holds(String kind, String text, String signature) {
        byte[] signed = ("AWS4-ECDSA-P256-SHA256" + kind + text).getBytes(StandardCharsets.ISO_8859_1);
        byte[] padded = signature.getBytes(StandardCharsets.US_ASCII);
        if (!AwsSigningUtils.verifyRawSha256EcdsaSignature(signed, padded, x, y)) throw new IllegalStateException(kind + text + "\n" + signature);
        signed[signed.length - 1] ^= 1;
        if (AwsSigningUtils.verifyRawSha256EcdsaSignature(signed, padded, x, y)) throw new IllegalStateException("anything holds");
        held++;
    }

    /** One chunk of HTTP's, as test_resign.py's program frames it. */
    static String unchunked(String body) {
        int line = body.indexOf("\r\n"), size = Integer.parseInt(body.substring(0, line), 16);
        return body.substring(line + 2, line + 2 + size);
    }

    static String between(String text, String before, String after) {
        int at = text.indexOf(before) + before.length();
        return text.substring(at, text.indexOf(after, at));
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.ISO_8859_1);
    }

    static String sha256(String text) throws Exception {
        StringBuilder hex = new StringBuilder();
        for (byte b : MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.ISO_8859_1))) hex.append(String.format("%02x", b));
        return hex.toString();
    }
}
