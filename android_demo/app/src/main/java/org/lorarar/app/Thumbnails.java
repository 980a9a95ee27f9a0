package org.lorarar.app;

import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.os.Handler;
import android.os.Looper;
import android.util.LruCache;
import java.io.File;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Pictures read small, on a thread of their own, and kept while there is memory. */
final class Thumbnails {
    /** Where a picture goes; on the main thread. */
    interface Shown {
        void show(Bitmap picture);
    }

    private static final int MOST_BYTES = 16 << 20;

    private final ExecutorService thread = Executors.newSingleThreadExecutor();
    private final Handler main = new Handler(Looper.getMainLooper());
    private final LruCache<String, Bitmap> kept = new LruCache<String, Bitmap>(MOST_BYTES) {
        @Override
        protected int sizeOf(String key, Bitmap picture) {
            return picture.getByteCount();
        }
    };

    /** Show a file's picture, square, of at most `side` pixels, now or when it is read. */
    void load(final File file, final int side, final Shown shown) {
        final String key = file.getPath() + " " + side;
        Bitmap picture = kept.get(key);
        if (picture != null) {
            shown.show(picture);
            return;
        }
        thread.execute(new Runnable() {
            @Override
            public void run() {
                final Bitmap read = read(file, side);
                if (read == null) {
                    return; // deleted meanwhile
                }
                kept.put(key, read);
                main.post(new Runnable() {
                    @Override
                    public void run() {
                        shown.show(read);
                    }
                });
            }
        });
    }

    void trim() {
        kept.evictAll();
    }

    private static Bitmap read(File file, int side) {
        BitmapFactory.Options options = new BitmapFactory.Options();
        options.inJustDecodeBounds = true;
        BitmapFactory.decodeFile(file.getPath(), options);
        options.inJustDecodeBounds = false;
        int smaller = Math.min(options.outWidth, options.outHeight);
        options.inSampleSize = Math.max(1, Integer.highestOneBit(Math.max(1, smaller / side)));
        try {
            Bitmap read = BitmapFactory.decodeFile(file.getPath(), options);
            boolean isLarge = read != null && Math.min(read.getWidth(), read.getHeight()) > side;
            return isLarge ? Bitmap.createScaledBitmap(read, side, side, true) : read;
        } catch (OutOfMemoryError error) {
            return null; // a thumbnail is not worth ending for
        }
    }
}
