package android.graphics;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import javax.imageio.ImageIO;

/** Stands in for Android's. */
public final class Bitmap {
    private final BufferedImage image;

    private Bitmap(BufferedImage image) {
        this.image = image;
    }

    /** How pixels are kept. */
    public enum Config { ARGB_8888 }

    /** How files are written. */
    public enum CompressFormat { PNG }

    public static Bitmap createBitmap(int[] argb, int width, int height, Config config) {
        BufferedImage image = new BufferedImage(width, height, BufferedImage.TYPE_INT_RGB);
        image.setRGB(0, 0, width, height, argb, 0, width);
        return new Bitmap(image);
    }

    public boolean compress(CompressFormat format, int quality, OutputStream out) {
        try {
            return ImageIO.write(image, "png", out);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    public int getByteCount() {
        return image.getWidth() * image.getHeight() * 4;
    }
}
