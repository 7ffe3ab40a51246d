package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// What test_sdks.py wants of every SDK.
func calls(string) error {
	ctx := context.Background()
	settings, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	if err := objects(ctx, s3.NewFromConfig(settings)); err != nil {
		return err
	}
	tables := dynamodb.NewFromConfig(settings)
	key := map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: "sdk"}}
	if _, err = tables.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String("orders"), Item: key}); err != nil {
		return err
	}
	if _, err = tables.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String("orders"), Key: key}); err != nil {
		return err
	}
	queues := sqs.NewFromConfig(settings)
	queue, err := queues.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String("orders")})
	if err != nil {
		return err
	}
	if _, err = queues.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: queue.QueueUrl, MessageBody: aws.String("one")}); err != nil {
		return err
	}
	function := aws.String("arn:aws:lambda:us-east-1:123456789012:function:trial")
	if _, err = lambda.NewFromConfig(settings).Invoke(ctx, &lambda.InvokeInput{FunctionName: function, Payload: []byte("{}")}); err != nil {
		return err
	}
	_, err = bedrockruntime.NewFromConfig(settings).InvokeModel(ctx, &bedrockruntime.InvokeModelInput{
		ModelId: aws.String("anthropic.claude-3-haiku-20240307-v1:0"), ContentType: aws.String("application/json"), Body: []byte("{}")})
	return err
}

func objects(ctx context.Context, files *s3.Client) error {
	bucket, name := aws.String("trial-data"), aws.String("sdk/a b+c")
	put := func(key *string, body io.Reader) error {
		_, err := files.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: body})
		return err
	}
	if err := put(name, strings.NewReader("some bytes")); err != nil {
		return err
	}
	got, err := files.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: name})
	if err != nil {
		return err
	}
	if body, err := io.ReadAll(got.Body); err != nil || string(body) != "some bytes" {
		return fmt.Errorf("other bytes: %q %w", body, err)
	}
	parts := aws.String("sdk/parts")
	upload, err := files.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: parts})
	if err != nil {
		return err
	}
	part, err := files.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: bucket, Key: parts, UploadId: upload.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("one part")})
	if err != nil {
		return err
	}
	done := []s3types.CompletedPart{{ETag: part.ETag, PartNumber: aws.Int32(1)}}
	_, err = files.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: bucket, Key: parts, UploadId: upload.UploadId, MultipartUpload: &s3types.CompletedMultipartUpload{Parts: done}})
	if err != nil {
		return err
	}
	// A stream that can't be read twice: of known length, with its checksum behind it.
	stream := io.MultiReader(strings.NewReader("by "), strings.NewReader("stream"))
	_, err = files.PutObject(ctx, &s3.PutObjectInput{
		Bucket: bucket, Key: aws.String("sdk/stream"), Body: stream, ContentLength: aws.Int64(9)})
	if err != nil {
		return err
	}
	presigner := s3.NewPresignClient(files)
	url, err := presigner.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("sdk/presigned")})
	if err != nil {
		return err
	}
	if err := use(http.MethodPut, url.URL, strings.NewReader("by url")); err != nil {
		return err
	}
	url, err = presigner.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("sdk/presigned")})
	if err != nil {
		return err
	}
	return use(http.MethodGet, url.URL, nil)
}

func use(method, url string, body io.Reader) error {
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("presigned %s: %s", method, answer.Status)
	}
	return nil
}
