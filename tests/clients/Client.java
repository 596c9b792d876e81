import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Posts a body with the JDK's default HttpClient, which offers h2c over http, and prints the status and the body. */
public class Client {
    public static void main(String[] arguments) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0] + "/chat/completions"))
            .header("authorization", "Bearer " + arguments[1])
            .header("content-type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(arguments[2]))
            .build();
        HttpClient client = HttpClient.newHttpClient();
        for (int call = 0; call < 2; call++) { // the second call reuses the connection
            HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(response.statusCode() + " " + response.body());
        }
    }
}
