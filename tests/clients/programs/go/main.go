// Go's clients: `client sdk allowed|denied`, `client calls all` (calls.go), `client events good|forged` (events.go) or `client net/http URL`. Says what it got, or its own error and exits with 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func sdk(action string) error {
	settings, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		return err
	}
	client := sts.NewFromConfig(settings)
	if action == "denied" {
		_, err = client.GetSessionToken(context.Background(), &sts.GetSessionTokenInput{})
	} else {
		_, err = client.GetCallerIdentity(context.Background(), &sts.GetCallerIdentityInput{})
	}
	return err
}

func get(url string) error {
	answer, err := http.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		fmt.Println("body:", string(body))
		err = errors.New(answer.Status)
	}
	return err
}

func main() {
	call := get
	switch os.Args[1] {
	case "sdk":
		call = sdk
	case "calls":
		call = calls
	case "events":
		call = events
	}
	if err := call(os.Args[2]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("went")
}
