// publish SERVER CHANNEL EVENT_ID < text
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// One for the whole program: it keeps connections open.
var client = &http.Client{Timeout: 5 * time.Second}

func publish(server, channel string, text []byte, eventID string) error {
	id := strings.ReplaceAll(url.QueryEscape(channel), "+", "%20")
	request, err := http.NewRequest("POST", server+"/pub?id="+id, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Event-Id", eventID)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body) // or the connection is not used again
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not published: %s %s", response.Status, response.Header.Get("X-Nginx-PushStream-Explain"))
	}
	return nil
}

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = publish(os.Args[1], os.Args[2], text, os.Args[3])
	}
	if err != nil {
		log.Fatal(err)
	}
}
