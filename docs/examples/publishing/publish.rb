#!/usr/bin/env ruby
# publish.rb SERVER CHANNEL EVENT_ID < text
require 'erb'
require 'net/http'

def publish(http, channel, text, event_id)
  answer = http.post("/pub?id=#{ERB::Util.url_encode(channel)}", text, 'Event-Id' => event_id)
  raise "not published: #{answer.code} #{answer['X-Nginx-PushStream-Explain']}" unless answer.is_a?(Net::HTTPOK)
end

server = URI(ARGV[0])
Net::HTTP.start(server.host, server.port, use_ssl: server.scheme == 'https', open_timeout: 5, read_timeout: 5) do |http|
  publish(http, ARGV[1], STDIN.read, ARGV[2])
end
