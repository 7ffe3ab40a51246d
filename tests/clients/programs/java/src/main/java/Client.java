import software.amazon.awssdk.http.SdkHttpClient;
import software.amazon.awssdk.http.apache.ApacheHttpClient;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbClient;

/** The SDK with one of its HTTP clients: `Client apache|url-connection allowed|denied`. Its own error, and 1, where it fails. */
public class Client {
    public static void main(String[] args) {
        SdkHttpClient http = args[0].equals("apache") ? ApacheHttpClient.create() : UrlConnectionHttpClient.create();
        try (DynamoDbClient client = DynamoDbClient.builder().httpClient(http).build()) {
            if (args[1].equals("denied")) {
                client.deleteTable(request -> request.tableName("others"));
            } else {
                client.listTables();
            }
            System.out.println("went");
        } catch (RuntimeException error) {
            System.out.println("error: " + error);
            System.exit(1);
        }
    }
}
